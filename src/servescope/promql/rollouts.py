"""Changes of a deployment's configuration or code, and figures before and after them."""

from __future__ import annotations

from servescope import promql
from servescope.promql import DEPLOYMENT, Labels, Scope

# For shares: a fixed minute would see nothing but the same second of every minute, which a load of such a period fools.
# And for changes: each step of the graph's range is looked at once, so one is found however short it was.
STEPS = "[$__range:$__interval]"


def changed(scope: Scope, window: str, by: Labels, *, hold: str = "") -> str:
    """1 where a deployment's fingerprint was not there a window ago: a change of its configuration or its code.

    An exporter that has just started knows no past, so what it sees first is no change. With `hold` the last sample
    counts for so long: a rule must tolerate a failed scrape.
    """

    def at(metric: str, offset: str = "") -> str:
        return f"last_over_time({scope.select(metric)}[{hold}]{offset})" if hold else f"{scope.select(metric)}{offset}"

    info, then = "servescope_deployment_config_info", f" offset {window}"
    known = ", ".join(promql.identifying_labels(scope, info))
    new = f"({at(info)} unless on ({known}) {at(info, then)})"
    exporter = ", ".join((*scope.key, "instance"))
    return promql.total(f"{new} and on ({exporter}) ({at('servescope_exporter_data_age_seconds', then)})", by, "group")


def _each(scope: Scope) -> Labels:
    return (*scope.key, *DEPLOYMENT)


def last_change(scope: Scope) -> str:
    """Unix time of each deployment's last change in the graph's range, by cluster."""
    return f"max_over_time((time() * ({changed(scope, '$__interval', _each(scope))})){STEPS})"


def before_last_change(scope: Scope, figure: str) -> str:
    """A figure by cluster and deployment as it was when the deployment last changed, looking back."""
    on = f"on ({', '.join(_each(scope))})"
    return f"last_over_time((({figure}) and {on} {changed(scope, '$__interval', _each(scope))}){STEPS})"


def after_last_change(scope: Scope, figure: str, window: str) -> str:
    """The same figure a window after that change; nothing before the window is over, nor after an older change."""
    on = f"on ({', '.join(_each(scope))})"
    now = changed(scope, "$__interval", _each(scope))
    then = f"last_over_time(({now})[$__interval:$__interval] offset {window})"
    figure_then = f"last_over_time((({figure}) and {on} {then}){STEPS})"
    return f"{figure_then} unless {on} count_over_time(({now})[{window}:$__interval])"
