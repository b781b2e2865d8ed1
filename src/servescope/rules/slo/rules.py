"""Recording rules and burn-rate alerts of SLOs.

Every minute all requests and the bad ones of that minute are counted, with the first events of new series included, and
every longer window is built from these counts: a ratio over a day is the ratio of two sums, so that busy hours are
weighted by their requests. From a day on the sums are of counts of four minutes, evaluated every four: 30 days of
minutes are 43,200 samples for each objective.
"""

from __future__ import annotations

from typing import Any

from servescope import promql
from servescope.promql.durations import shorten, shortened
from servescope.promql.figures import bound
from servescope.promql.slo_series import LABELS, LONG_WINDOWS, SHORT_WINDOWS
from servescope.rules.alert import Alert, Case, rule
from servescope.rules.expressions import Expressions
from servescope.rules.slo.objectives import PAIRS, Pair, Slo, pairs
from servescope.settings import Settings

EVALUATION = "1m"
# Less than the five minutes for which Prometheus takes a sample for the current one: a store may show one late.
SLOW_EVALUATION = "4m"

ALERT = "RayServeErrorBudgetBurn"


def document(
    slos: list[Slo], settings: Settings, panel_ids: dict[tuple[str, str], int], *, scale: float = 1
) -> dict[str, Any]:
    """The rule file: two groups for each SLO and indicator, whose rules are evaluated in order."""
    groups = []
    for slo in slos:
        for sli in slo.objectives:
            of_pairs = [
                (pair, _pair_rule(slo, sli, pair, settings=settings, panel_ids=panel_ids, scale=scale))
                for pair in pairs(slo)
            ]
            for name, interval, recorded, long in (
                (f"servescope.slo.{slo.name}.{sli}", EVALUATION, short_recordings(slo, sli, settings), False),
                (
                    f"servescope.slo.{slo.name}.{sli}.{SLOW_EVALUATION}",
                    SLOW_EVALUATION,
                    long_recordings(slo, sli, scale=scale),
                    True,
                ),
            ):
                rules: list[dict[str, Any]] = [
                    {"record": record, "expr": shorten(expr, scale), "labels": _labels(slo, sli)}
                    for record, expr in recorded
                ]
                rules += [rule for pair, rule in of_pairs if (pair.long in LONG_WINDOWS) == long]
                groups.append({"name": name, "interval": shortened(interval, scale), "rules": rules})
    return {"groups": groups}


def _pair_rule(
    slo: Slo, sli: str, pair: Pair, *, settings: Settings, panel_ids: dict[tuple[str, str], int], scale: float
) -> dict[str, Any]:
    alert = burn_alert(slo, sli, pair, settings=settings)
    entry = rule(alert, settings, panel_ids)
    entry["expr"] = shorten(entry["expr"], scale)
    entry["for"] = shortened(entry["for"], scale)
    entry["labels"] |= {"slo": slo.name, "sli": sli, "long": pair.long, "short": pair.short}
    return entry


def _labels(slo: Slo, sli: str) -> dict[str, str]:
    who = {"application": slo.application, "deployment": slo.deployment, "route": slo.route}
    return {"slo": slo.name, "sli": sli} | {label: value for label, value in who.items() if value}


def _selector(slo: Slo, sli: str) -> str:
    return f'{{slo="{slo.name}", sli="{sli}"}}'


def _days(over: str) -> str:
    """A window of days without its first millisecond.

    A sample at the very edge of a range is in it for Prometheus 2 and not for 3, and that sample is of four minutes.
    """
    return f"{24 * int(over.removesuffix('d')) - 1}h59m59s999ms"


def _counted(what: str, over: str, selector: str) -> str:
    step, window = (SLOW_EVALUATION, _days(over)) if over.endswith("d") else (EVALUATION, over)
    return f"sum_over_time(serve_slo:{what}:events{step}{selector}[{window}])"


def _ratio(over: str, selector: str) -> tuple[str, str]:
    expr = f"{_counted('errors', over, selector)} / ({_counted('requests', over, selector)} > 0)"
    return f"serve_slo:error_ratio:ratio{over}", expr


def short_recordings(slo: Slo, sli: str, settings: Settings) -> list[tuple[str, str]]:
    """Name and expression of each rule that is evaluated every minute, in the order of evaluation."""
    exprs = Expressions(settings).by_service
    bad, every = _indicator(slo, sli, exprs)
    objective = slo.objectives[sli]
    selector = _selector(slo, sli)
    requests = exprs.total("max", f"serve_slo:requests:events1m{selector}")
    # Without an error there is no series: use zero. A latency threshold without a bucket must stay absent.
    bad = f"clamp_min({bad}, 0)" if sli == "latency" else f"({bad} or 0 * {requests})"
    # Never more than the requests of the minute: counters that disagree for a moment must not spend a month's budget.
    errors = f"{requests} - clamp_min({requests} - {bad}, 0)"
    # Without requests in the hour the burn rate is unknown, and so is the time to exhaustion.
    burn = f"serve_slo:error_ratio:ratio1h{selector} / {1 - objective:g}"
    return [
        ("serve_slo:requests:events1m", every),
        ("serve_slo:errors:events1m", errors),
        *((f"serve_slo:{what}:events1h", _counted(what, "1h", selector)) for what in ("requests", "errors")),
        *(_ratio(over, selector) for over in SHORT_WINDOWS),
        ("serve_slo:objective:ratio", f"0 * serve_slo:requests:events1m{selector} + {objective:g}"),
        ("serve_slo:burn_rate:ratio1h", burn),
    ]


def long_recordings(slo: Slo, sli: str, *, scale: float = 1) -> list[tuple[str, str]]:
    """Name and expression of each rule that is evaluated every four minutes, in the order of evaluation."""
    selector = _selector(slo, sli)
    window = f"{slo.window_days}d"
    objective = slo.objectives[sli]

    def not_counted_yet(what: str) -> str:
        """The minutes of a day that none of its counts of four minutes holds: a missed evaluation is made good."""
        minutes, counts = (
            f"sum_over_time(serve_slo:{what}:events{w}{selector}[{_days('1d')}])" for w in (EVALUATION, SLOW_EVALUATION)
        )
        return f"{minutes} - ({counts} or 0 * {minutes})"

    spent = f"serve_slo:error_ratio:ratio{window}{selector} / {1 - objective:g}"
    left = f"serve_slo:error_budget_left:ratio{selector}"
    seconds = slo.window_days * 86_400 / scale
    return [
        *((f"serve_slo:{what}:events4m", not_counted_yet(what)) for what in ("requests", "errors")),
        *(_ratio(over, selector) for over in dict.fromkeys((*LONG_WINDOWS, window))),
        ("serve_slo:error_budget_left:ratio", f"1 - {spent}"),
        (
            "serve_slo:time_to_exhaustion:seconds",
            f"clamp_min({left}, 0) * {seconds:g} / (serve_slo:burn_rate:ratio1h{selector} > 0)",
        ),
    ]


def _indicator(slo: Slo, sli: str, exprs: Expressions) -> tuple[str, str]:
    """Bad requests of one minute, absent where there are none, and all requests, by cluster.

    The minute ended one scrape ago: these counts are summed, so each event has to be in exactly one of them.
    """
    who = {"application": f'="{slo.application}"'}

    def counted(*counters: str, **extra: str) -> str:
        minutes = (
            promql.increase(
                exprs.scope,
                counter,
                EVALUATION,
                hold=exprs.hold,
                ended=f"{exprs.settings.scrape_interval_s}s",
                **who,
                **extra,
            )
            for counter in counters
        )
        return promql.total(" or ".join(minutes), exprs.by())

    if slo.deployment:
        who["deployment"] = f'="{slo.deployment}"'
        calls = counted("ray_serve_deployment_processing_latency_ms_count")
        if sli == "latency":
            fast = counted("ray_serve_deployment_processing_latency_ms_bucket", le=bound(slo.latency_ms))
            return f"({calls} - {fast})", calls
        # A caller that disconnects or times out cancels the call; that is not the deployment's error.
        return counted("ray_serve_deployment_error_counter_total", exception_type='!~".*CancelledError.*"'), calls
    if slo.route:
        who["route"] = f'="{slo.route}"'
    if sli == "latency":
        latencies = [f"ray_serve_{protocol}_request_latency_ms" for protocol in ("http", "grpc")]
        no_sessions = {"method": promql.NO_SESSIONS}  # a session may last as long as it likes
        every = counted(*(f"{family}_count" for family in latencies), **no_sessions)
        fast = counted(*(f"{family}_bucket" for family in latencies), le=bound(slo.latency_ms), **no_sessions)
        return f"({every} - {fast})", every
    requests = [f"ray_serve_num_{protocol}_requests_total" for protocol in ("http", "grpc")]
    shed = "|".join((*exprs.settings.backpressure_codes, "RESOURCE_EXHAUSTED"))
    codes = (
        f'=~"{promql.ERROR_CODES}|{shed}"'
        if slo.count_backpressure
        else (f'=~"{promql.ERROR_CODES}", status_code!~"{shed}"')
    )
    return counted(*requests, status_code=codes), counted(*requests)


def burn_alert(slo: Slo, sli: str, pair: Pair, *, settings: Settings) -> Alert:
    """The alert of one pair of windows."""
    selector = _selector(slo, sli)
    limit = pair.factor(slo.window_days) * (1 - slo.objectives[sli])
    counted = _counted("errors", pair.long, selector)
    return _alert(
        severity=pair.severity,
        for_=pair.for_,
        expr=(
            f"serve_slo:error_ratio:ratio{pair.long}{selector} > {limit:g}\n"
            f"# the short window resolves the alert soon after the errors stop\n"
            f"and serve_slo:error_ratio:ratio{pair.short}{selector} > {limit:g}\n"
            f"# ignore burn rates of only a few errors at low traffic\n"
            f"and {counted} >= {settings.alert_min_events}"
        ),
        description=(
            f"{{{{ $value | humanizePercentage }}}} of the requests of SLO {{{{ $labels.slo }}}} missed its "
            f"{{{{ $labels.sli }}}} objective over {pair.long}: this burn rate spends {100 * pair.budget_share:g} % of "
            f"the error budget of {slo.window_days} days in {pair.long}."
        ),
    )


def _alert(*, severity: str, for_: str, expr: str, description: str) -> Alert:
    return Alert(
        name=ALERT,
        severity=severity,
        owner="application",
        for_=for_,
        labels=LABELS,
        expr=expr,
        summary="The error budget burn rate is too high.",
        description=description,
        meaning=(
            "More requests miss the objective than the error budget allows for. Two pairs of windows page (2 % of the "
            "budget in an hour, 5 % in six hours), two open a ticket (10 % in a day, 10 % in three days)."
        ),
        impact="Users get errors, back-pressure or slow responses, beyond what the objective allows.",
        diagnosis=(
            ("Error budget left:", "serve_slo:error_budget_left:ratio"),
            ("How high is the burn rate? 1 spends the budget in the window exactly.", "serve_slo:burn_rate:ratio1h"),
            (
                "Which requests fail (availability)?",
                "sum by (application, route, status_code) (rate(ray_serve_num_http_requests_total[5m]))",
            ),
        ),
        mitigation=(
            "Follow the alert of the cause: RayServeErrorRatioHigh, RayServeBackPressure or RayServeLatencyHigh.",
            "When the budget is exhausted, postpone risky deploys until it has recovered.",
        ),
        panel=("servescope-slo", "Burn rate"),
        case=Case(at="", fires={}, quiet={}),
        drill="raising-handler",
        judged="budget",
    )


def runbook_alert() -> Alert:
    """The alert as its runbook page shows it, for an objective of 99.9 % over 30 days."""
    return burn_alert(
        Slo(name="example", application="shop", availability=0.999), "availability", PAIRS[0], settings=Settings()
    )
