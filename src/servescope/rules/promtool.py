"""promtool's unit tests of the alerts: for each a case in which it fires, one just below, and worlds where none may.

Every test runs against the whole rule file and asserts the complete list of firing alerts, so a rule that fires on
another one's trouble is found. Rules are evaluated less often than in life, to save time.
"""

from __future__ import annotations

import re
from typing import Any

from servescope.promql.durations import milliseconds
from servescope.rules.alert import Alert, Group, InputSeries
from servescope.settings import Settings

SCRAPE_S = 15
WATCHDOG = "ServescopeWatchdog"
FIRING = f'ALERTS{{alertstate="firing", alertname!="{WATCHDOG}"}}'

# What every living cluster reports: without it the alerts on missing metrics would rightly fire in every test.
BASE: InputSeries = {
    'ray_node_cpu_utilization{ip="10.0.0.1",IsHeadNode="true",RayNodeType="head"}': "10x",
    'ray_gcs_actors_count{State="Created",Component="gcs_server"}': "5x",
    'up{instance="n1",job="ray"}': "1x",
}


def document(group: Group, settings: Settings) -> dict[str, Any]:
    """The test file of one group of alerts."""
    tests = []
    for alert in group.alerts:
        case = alert.case
        own = _sample(alert, settings) if alert.name != WATCHDOG else ""
        tests.append(
            _test(
                f"{alert.name} fires",
                series={**BASE, **case.fires},
                at=case.at,
                expected=[own, *case.also],
                settings=settings,
            )
        )
        if case.quiet:
            series = {**BASE, **case.fires, **case.quiet}
            tests.append(
                _test(
                    f"{alert.name} is quiet just below",
                    series=series,
                    at=case.at,
                    expected=[*case.quiet_also],
                    settings=settings,
                )
            )
    # Alerts that wait for hours need no rule evaluated every two minutes.
    longest = max(milliseconds(alert.case.at) for alert in group.alerts)
    return _file(tests, "10m" if longest > milliseconds("3h") else "2m")


def quiet_document(settings: Settings) -> dict[str, Any]:
    """The test file of the worlds in which no alert may fire."""
    return _file(
        [_test(name, series=series, at=at, expected=[], settings=settings) for name, (series, at) in _worlds().items()],
        "1m",
    )


def _file(tests: list[dict[str, Any]], interval: str) -> dict[str, Any]:
    return {"rule_files": ["../servescope-alerts.yml"], "evaluation_interval": interval, "tests": tests}


def _sample(alert: Alert, settings: Settings) -> str:
    labels = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity, **alert.case.labels}
    if alert.case.cluster:
        labels[settings.cluster_label] = alert.case.cluster
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def _test(name: str, *, series: InputSeries, at: str, expected: list[str], settings: Settings) -> dict[str, Any]:
    """One test. `expected` holds whole samples, or names of alerts of which at least one instance must fire."""
    length = milliseconds(at) // 1000 // SCRAPE_S + 4
    named = sorted({entry.split("{")[0] for entry in expected if entry and not entry.startswith("ALERTS{")})
    expressions = [
        {
            # promtool has no matcher on a set of alerts, so those that come along are asserted by name alone.
            "expr": FIRING.replace("}", f', alertname!~"{"|".join(named)}"}}') if named else FIRING,
            "eval_time": at,
            "exp_samples": [{"labels": entry, "value": 1} for entry in expected if entry.startswith("ALERTS{")],
        },
        *(
            {
                "expr": f'group by (alertname) (ALERTS{{alertstate="firing", alertname="{other}"}})',
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{other}"}}', "value": 1}],
            }
            for other in named
        ),
    ]
    return {
        "name": name,
        "interval": f"{SCRAPE_S}s",
        "input_series": [
            {"series": _labelled(text, settings), "values": _lasting(values, length)} for text, values in series.items()
        ],
        "promql_expr_test": expressions,
    }


def _labelled(series: str, settings: Settings) -> str:
    name, _, inside = series.rstrip("}").partition("{")
    labels = [inside] if inside else []
    for label, value in ((settings.cluster_label, "a"), ("instance", "n1"), ("job", "ray")):
        if not re.search(rf'(^|,){label}="', inside):
            labels.append(f'{label}="{value}"')
    return f"{name}{{{','.join(labels)}}}"


def _lasting(values: str, length: int) -> str:
    """Replace a closing `x` by as many steps as the test lasts; a word before it counts towards them."""
    if not values.endswith("x"):
        return values
    used = 0
    for word in values.split()[:-1]:
        repeat = re.search(r"x(\d+)$", word)
        used += (int(repeat.group(1)) + (0 if word.startswith("_") else 1)) if repeat else 1
    return f"{values}{max(1, length - used)}"


# ---------------------------------------------------------------------------------------------------------------------
# Worlds without trouble


def _series(name: str, **labels: str) -> str:
    return f"{name}{{{','.join(f'{label}={value!r}'.replace(chr(39), chr(34)) for label, value in labels.items())}}}"


_HTTP = {"application": "main", "route": "/", "method": "GET"}
_D = {"application": "main", "deployment": "D"}


def _healthy(*, replica: str = "r1", session: str = "s1", born: str = "", ends: str = "") -> dict[str, str]:
    """A deployment that works: two requests a second, all answered in time. `born` delays, `ends` cuts its series."""
    s = {"SessionName": session}
    r = {**_D, "replica": replica, **s}

    def grows(step: str) -> str:
        return f"{born}0+{step}{ends or 'x'}"

    def stays(value: str) -> str:
        return f"{born}{value}{ends or 'x'}"

    result = {
        _series("ray_serve_num_http_requests_total", **_HTTP, status_code="200", **s): grows("30"),
        _series("ray_serve_application_status", application="main", **s): stays("6"),
        _series("ray_serve_deployment_status", **_D, **s): stays("6"),
        _series("ray_serve_autoscaling_target_replicas", **_D, **s): stays("1"),
        _series("ray_serve_deployment_replica_healthy", **r): stays("1"),
        _series("ray_serve_replica_processing_queries", **r): stays("1"),
        _series("ray_serve_deployment_queued_queries", **_D, handle="h", actor_id="p", **s): stays("0"),
        _series("ray_serve_deployment_replica_starts_total", **r): stays("1"),
        _series("ray_serve_controller_num_control_loops", actor_id=f"c{session}", **s): grows("130"),
        _series("ray_serve_proxy_status", node_id="x", node_ip_address="10.0.0.1", **s): stays("2"),
        _series(
            "ray_serve_event_loop_monitoring_iterations_total", component="proxy", loop_type="main", actor_id="p", **s
        ): grows("3"),
        _series("ray_node_disk_utilization_percentage", ip="10.0.0.1", **s): stays("40"),
        _series("ray_node_mem_used", ip="10.0.0.1", **s): stays("40"),
        _series("ray_node_mem_total", ip="10.0.0.1", **s): stays("100"),
    }
    for le in ("100", "1000", "5000", "+Inf"):
        result[_series("ray_serve_http_request_latency_ms_bucket", **_HTTP, status_code="200", le=le, **s)] = grows(
            "30"
        )
        result[_series("ray_serve_deployment_processing_latency_ms_bucket", **r, route="/", le=le)] = grows("30")
    for le in ("500", "5000", "+Inf"):
        labels = {**_D, "actor_id": "p", "handle_source": "PROXY", "le": le, **s}
        result[_series("ray_serve_request_router_fulfillment_time_ms_bucket", **labels)] = grows("30")
    for name, labels in (
        ("ray_serve_http_request_latency_ms_count", {**_HTTP, "status_code": "200", **s}),
        ("ray_serve_deployment_processing_latency_ms_count", {**r, "route": "/"}),
        ("ray_serve_request_router_fulfillment_time_ms_count", {**_D, "actor_id": "p", "handle_source": "PROXY", **s}),
    ):
        result[_series(name, **labels)] = grows("30")
    return result


def _with_gap(series: InputSeries, step: int) -> dict[str, str]:
    """Three scrapes in a row fail: all series of the target stop and come back, counters further on."""
    result = {}
    for text, values in {**BASE, **series}.items():
        growth = re.fullmatch(r"0\+(\d+)x", values)
        before = f"{values}{step}"
        if text.startswith("up{"):
            result[text] = f"1x{step} 0x2 1x"
        elif growth:
            result[text] = f"{before} _x3 {int(growth.group(1)) * (step + 4)}+{growth.group(1)}x"
        else:
            result[text] = f"{before} _x3 {values}"
    return result


_FIRST_EVENTS: InputSeries = {
    _series("ray_serve_num_http_requests_total", **_HTTP, status_code="500"): "_x100 1x",
    _series("ray_serve_num_http_requests_total", **_HTTP, status_code="503"): "_x100 1x",
    _series("ray_serve_deployment_error_counter_total", **_D, replica="r1", route="/", exception_type="E"): "_x100 1x",
    _series("ray_serve_health_check_failures_total", **_D, replica="r1"): "_x100 1x",
    _series("ray_unintentional_worker_failures_total", Component="gcs_server"): "_x100 1x",
}


def _worlds() -> dict[str, tuple[InputSeries, str]]:
    """Series and the time at which no alert but the watchdog may fire."""
    healthy = _healthy()

    def ended(values: str) -> str:
        """A replica's series after its end: gauges go, counters and histograms stay with its node's agent."""
        growth = re.fullmatch(r"0\+(\d+)x", values)
        return f"{values}100 {100 * int(growth.group(1))}x" if growth else f"{values}100"

    replaced = {text: ended(values) if 'replica="r1"' in text else values for text, values in healthy.items()} | {
        text: values for text, values in _healthy(replica="r2", born="_x104 ").items() if 'replica="r2"' in text
    }
    old = _healthy(ends="x100")
    young = _healthy(session="s2", born="_x108 ")
    zero = {
        _series("ray_serve_deployment_status", **_D): "6x",
        _series("ray_serve_application_status", application="main"): "6x",
        _series("ray_serve_autoscaling_target_replicas", **_D): "1x100 0x",
        _series("ray_serve_deployment_replica_healthy", **_D, replica="r1"): "1x102",
    }
    slower = {
        _series(
            "ray_serve_http_request_latency_ms_bucket", **_HTTP, status_code="200", le="100", SessionName="s1"
        ): "0+30x260 7800x"
    }
    high_cardinality_off = {
        text.replace(',replica="r1"', "") if "replica_healthy" in text else text: values
        for text, values in healthy.items()
    }
    return {
        "healthy": ({**BASE, **healthy}, "40m"),
        "healthy, while three scrapes fail": (_with_gap(healthy, 100), "26m"),
        "healthy, after three scrapes failed": (_with_gap(healthy, 100), "29m"),
        "the first failure of each kind": ({**BASE, **healthy, **_FIRST_EVENTS}, "26m"),
        "a replica died and was replaced": ({**BASE, **replaced, **_FIRST_EVENTS}, "28m"),
        "a new version whose caller bears with its failures replaces the one replica": (
            {
                **BASE,
                **replaced,
                _series("ray_serve_deployment_error_counter_total", **_D, replica="r2", route="/"): "_x104 0+10x",
            },
            "33m",
        ),
        "a new session after a restart, three minutes in": ({**BASE, **old, **young}, "30m"),
        "a new session after a restart, an hour in": ({**BASE, **old, **young}, "90m"),
        "a slow application is deleted": (
            {
                **BASE,
                **healthy,
                **slower,
                _series("ray_serve_application_status", application="main", SessionName="s1"): "6x250 4x8",
                _series("ray_serve_deployment_status", **_D, SessionName="s1"): "6x250 3x8",
            },
            "75m",
        ),
        "a slow application and an exporter that has just started": (
            {
                **BASE,
                **healthy,
                **slower,
                _series("servescope_deployment_config_info", **_D, fingerprint="f"): "_x250 1x",
                "servescope_exporter_data_age_seconds": "_x250 0x",
            },
            "75m",
        ),
        # Each of them tells what it read from its checkpoint, and is killed before it has met the replicas.
        "a controller that is killed again and again": (
            {
                **BASE,
                **healthy,
                _series("ray_serve_controller_num_control_loops", actor_id="cs1", SessionName="s1"): "0+130x20",
                **{
                    _series(name, WorkerId=f"w{n}", SessionName="s1", **labels): f"_x{16 + 5 * n} {values}"
                    for n in range(2, 20)
                    for name, labels, values in (
                        ("ray_serve_controller_num_control_loops", {"actor_id": "cs1"}, "0+130x1 130x2"),
                        ("ray_serve_proxy_status", {"node_id": "n1", "node_ip_address": "10.0.0.1"}, "1x3"),
                    )
                },
                _series("ray_serve_proxy_status", node_id="x", node_ip_address="10.0.0.1", SessionName="s1"): "2x20",
                _series("ray_serve_deployment_replica_healthy", **_D, replica="r1", SessionName="s1"): "1x20",
            },
            "15m",
        ),
        "scaled to zero on purpose": ({**BASE, **zero}, "40m"),
        "without the replica label on the controller's metrics": ({**BASE, **high_cardinality_off}, "40m"),
        "a cluster without Serve": (dict(BASE), "40m"),
        "the node of a busy replica cannot be scraped": (
            {
                **BASE,
                **{text: f"{values}100" if "_processing_" in text else values for text, values in healthy.items()},
            },
            "28m",
        ),
        "a node that is drained refuses its probes": (
            {
                **BASE,
                **healthy,
                _series("ray_serve_proxy_status", node_id="y", node_ip_address="10.0.0.2"): "2x100 4x6",
                _series(
                    "ray_serve_num_http_requests_total",
                    **{**_HTTP, "application": "", "route": "/-/healthz"},
                    status_code="503",
                    NodeAddress="10.0.0.2",
                ): "0x100 1+1x6",
            },
            "27m",
        ),
        "a crowd of new clients is told what is old": (
            {
                **BASE,
                **healthy,
                _series("ray_serve_long_poll_latency_ms_count", namespace="a"): "20x100 60x",
                _series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "20x100 20x",
            },
            "32m",
        ),
        "Prometheus has just started and finds old counters": (
            {
                **BASE,
                **{text: values.replace("0+", "900000+") for text, values in healthy.items()},
                **dict.fromkeys(_FIRST_EVENTS, "40x"),
                _series("ray_actors", Source="gcs", State="DEAD", Name="ServeReplica:main:D"): "40x",
                _series("ray_serve_autoscaling_target_replicas", **_D, SessionName="s1"): "2x",
            },
            "8m",
        ),
    }
