"""docs/names.md: every public name, from the objects themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from servescope.catalog import METRICS
from servescope.dashboards import all_dashboards
from servescope.pages import runbooks
from servescope.promql.figures import FIGURES
from servescope.promql.signals import SIGNALS
from servescope.promql.slo_series import RECORDED
from servescope.settings import Settings

# A command to its options and arguments.
Commands = Mapping[str, Sequence[str]]

_INTRODUCTION = """\
# Public names

What others build on: queries, routes, silences, links, scripts. A name in this list is neither renamed nor removed
within a major version. A test compares the list with that of the last release and fails on a difference that
[CHANGELOG.md](../CHANGELOG.md) does not name. Generated; the window at the end of a recorded rate is a setting.
"""


def names(settings: Settings, commands: Commands) -> dict[str, list[str]]:
    """The names by kind, in the order in which they are generated."""
    return {
        "Dashboard uids": [board.uid for board in all_dashboards(settings)],
        "Alerts": [alert.name for group in runbooks.all_groups(settings) for alert in group.alerts],
        "Recorded series": [signal.name(settings) for signal in SIGNALS]
        + [figure.record for figure in FIGURES]
        + list(RECORDED),
        "Exported metrics": [metric.name for metric in METRICS if metric.name.startswith("servescope_")],
        "Commands": [
            text for command, options in commands.items() for text in (command, *(f"{command} {o}" for o in options))
        ],
        "Settings": [field.name for field in fields(Settings)],
        "Import paths": [
            "servescope.tracing:otlp",
            "servescope.tracing:instrument_fastapi",
            "servescope.tracing:trace_batch",
        ],
    }


def render(settings: Settings, commands: Commands) -> str:
    """The page."""
    lines = [_INTRODUCTION]
    for kind, found in names(settings, commands).items():
        if kind != "Commands":
            lines += [f"## {kind}", "", *(f"- `{name}`" for name in found), ""]
            continue
        lines += [f"## {kind}", "", "| command | options |", "|---|---|"]
        lines += [f"| `{name}` | {', '.join(f'`{o}`' for o in options)} |" for name, options in commands.items()]
        lines += [""]
    return "\n".join(lines)
