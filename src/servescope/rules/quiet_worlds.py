"""Quiet worlds: input series of promtool's tests for which no alert but the watchdog may fire.

Each of them once caused, or could cause, a false positive. Values are in promtool's notation; one step is a scrape,
15 s. What every running cluster reports is added to each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from servescope.rules.alert import InputSeries
from servescope.rules.series import (
    EXPORTER_DATA_AGE,
    LIVING_CLUSTER,
    THE_APPLICATION,
    deployment_series,
    http_requests,
    replica_actors,
    series,
)

_GROWTH = re.compile(r"0\+(\d+)x")  # the values of a counter that grows steadily
_REQUEST = {**THE_APPLICATION, "route": "/", "method": "GET"}
_SESSION = {"SessionName": "s1"}


@dataclass(frozen=True)
class World:
    """Input series, and the time at which no alert may fire."""

    series: InputSeries
    at: str


def worlds() -> dict[str, World]:
    """Every world by its name, which describes it."""
    healthy = _healthy_deployment()
    replaced = _replaced_replica(healthy)
    restarted = _healthy_deployment(ends="x100") | _healthy_deployment(session="s2", starts="_x108 ")
    slow = {**healthy, **_SLOWED_DOWN}
    return {
        "healthy": World(healthy, "40m"),
        "healthy, during three failed scrapes": World(_with_gap(healthy, 100), "26m"),
        "healthy, after three failed scrapes": World(_with_gap(healthy, 100), "29m"),
        "the first failure of each kind": World({**healthy, **_FIRST_FAILURES}, "26m"),
        "a replica died and was replaced": World({**replaced, **_FIRST_FAILURES}, "28m"),
        "a new version whose caller handles its errors replaces the only replica": World(
            {
                **replaced,
                deployment_series("ray_serve_deployment_error_counter_total", replica="r2", route="/"): "_x104 0+10x",
            },
            "33m",
        ),
        "a new session after a restart, three minutes in": World(restarted, "30m"),
        "a new session after a restart, an hour in": World(restarted, "90m"),
        "a slow application is deleted": World(
            {
                **slow,
                series("ray_serve_application_status", **THE_APPLICATION, **_SESSION): "6x250 4x8",
                deployment_series("ray_serve_deployment_status", **_SESSION): "6x250 3x8",
            },
            "75m",
        ),
        "a slow application and an exporter that has just started": World(
            {
                **slow,
                deployment_series("servescope_deployment_config_info", fingerprint="f"): "_x250 1x",
                EXPORTER_DATA_AGE: "_x250 0x",
            },
            "75m",
        ),
        "a controller that is killed repeatedly": World(_controllers_that_die(healthy), "15m"),
        "the controller is replaced every four minutes and demand stays within the replicas": World(
            {**healthy, **_DEMAND_SEEN_BY_THREE_CONTROLLERS}, "28m"
        ),
        "some requests fail after the first deploy of an application": World(
            {
                **_healthy_deployment(starts="_x200 "),
                deployment_series("ray_serve_deployment_status", **_SESSION): "_x200 3x4 6x",
                series("ray_serve_num_http_requests_total", **_REQUEST, status_code="500", **_SESSION): "_x200 0+1x",
            },
            "56m",
        ),
        "scaled to zero on purpose": World(
            {
                deployment_series("ray_serve_deployment_status"): "6x",
                series("ray_serve_application_status", **THE_APPLICATION): "6x",
                deployment_series("ray_serve_autoscaling_target_replicas"): "1x100 0x",
                deployment_series("ray_serve_deployment_replica_healthy", replica="r1"): "1x102",
            },
            "40m",
        ),
        "no replica label on the controller's metrics": World(
            {
                text.replace(',replica="r1"', "") if "replica_healthy" in text else text: values
                for text, values in healthy.items()
            },
            "40m",
        ),
        "a cluster without Serve": World({}, "40m"),
        "the node of a busy replica cannot be scraped": World(
            {text: f"{values}100" if "_processing_" in text else values for text, values in healthy.items()}, "28m"
        ),
        "a draining node fails its health probe": World(
            {
                **healthy,
                series("ray_serve_proxy_status", node_id="y", node_ip_address="10.0.0.2"): "2x100 4x6",
                series(
                    "ray_serve_num_http_requests_total",
                    **{**_REQUEST, "application": "", "route": "/-/healthz"},
                    status_code="503",
                    NodeAddress="10.0.0.2",
                ): "0x100 1+1x6",
            },
            "27m",
        ),
        "many new long-poll clients receive old updates": World(
            {
                **healthy,
                series("ray_serve_long_poll_latency_ms_count", namespace="a"): "20x100 60x",
                series("ray_serve_long_poll_latency_ms_bucket", namespace="a", le="5000"): "20x100 20x",
            },
            "32m",
        ),
        "Prometheus has just started and scrapes old counters": World(
            {
                **{text: values.replace("0+", "900000+") for text, values in healthy.items()},
                **dict.fromkeys(_FIRST_FAILURES, "40x"),
                replica_actors("DEAD"): "40x",
                deployment_series("ray_serve_autoscaling_target_replicas", **_SESSION): "2x",
            },
            "8m",
        ),
    }


def _healthy_deployment(
    *, replica: str = "r1", session: str = "s1", starts: str = "", ends: str = ""
) -> dict[str, str]:
    """A healthy deployment: two fast successful requests a second. `starts` delays, `ends` truncates its series."""
    of_session = {"SessionName": session}
    of_replica = {"replica": replica, **of_session}
    of_router = {"actor_id": "p", "handle_source": "PROXY"}

    def grows(step: str) -> str:
        return f"{starts}0+{step}{ends or 'x'}"

    def stays(value: str) -> str:
        return f"{starts}{value}{ends or 'x'}"

    result = {
        series("ray_serve_num_http_requests_total", **_REQUEST, status_code="200", **of_session): grows("30"),
        series("ray_serve_application_status", **THE_APPLICATION, **of_session): stays("6"),
        deployment_series("ray_serve_deployment_status", **of_session): stays("6"),
        deployment_series("ray_serve_autoscaling_target_replicas", **of_session): stays("1"),
        deployment_series("ray_serve_deployment_replica_healthy", **of_replica): stays("1"),
        deployment_series("ray_serve_replica_processing_queries", **of_replica): stays("1"),
        deployment_series("ray_serve_deployment_queued_queries", handle="h", actor_id="p", **of_session): stays("0"),
        deployment_series("ray_serve_deployment_replica_starts_total", **of_replica): stays("1"),
        series("ray_serve_controller_num_control_loops", actor_id=f"c{session}", **of_session): grows("130"),
        series("ray_serve_proxy_status", node_id="x", node_ip_address="10.0.0.1", **of_session): stays("2"),
        series(
            "ray_serve_event_loop_monitoring_iterations_total",
            component="proxy",
            loop_type="main",
            actor_id="p",
            **of_session,
        ): grows("3"),
        series("ray_node_disk_utilization_percentage", ip="10.0.0.1", **of_session): stays("40"),
        series("ray_node_mem_used", ip="10.0.0.1", **of_session): stays("40"),
        series("ray_node_mem_total", ip="10.0.0.1", **of_session): stays("100"),
    }
    at_proxy, processing = "ray_serve_http_request_latency_ms", "ray_serve_deployment_processing_latency_ms"
    routing = "ray_serve_request_router_fulfillment_time_ms"
    for le in ("100", "1000", "5000", "+Inf"):
        result[series(f"{at_proxy}_bucket", **_REQUEST, status_code="200", le=le, **of_session)] = grows("30")
        result[deployment_series(f"{processing}_bucket", **of_replica, route="/", le=le)] = grows("30")
    for le in ("500", "5000", "+Inf"):
        result[deployment_series(f"{routing}_bucket", **of_router, le=le, **of_session)] = grows("30")
    result[series(f"{at_proxy}_count", **_REQUEST, status_code="200", **of_session)] = grows("30")
    result[deployment_series(f"{processing}_count", **of_replica, route="/")] = grows("30")
    result[deployment_series(f"{routing}_count", **of_router, **of_session)] = grows("30")
    return result


_FIRST_FAILURES: InputSeries = {
    http_requests("500"): "_x100 1x",
    http_requests("503"): "_x100 1x",
    deployment_series(
        "ray_serve_deployment_error_counter_total", replica="r1", route="/", exception_type="E"
    ): "_x100 1x",
    deployment_series("ray_serve_health_check_failures_total", replica="r1"): "_x100 1x",
    series("ray_unintentional_worker_failures_total", Component="gcs_server"): "_x100 1x",
}

# After an hour of low latency every request of the healthy deployment is slow.
_SLOWED_DOWN: InputSeries = {
    series(
        "ray_serve_http_request_latency_ms_bucket", **_REQUEST, status_code="200", le="100", **_SESSION
    ): "0+30x260 7800x"
}

# Nine tenths of what the one replica is meant for. A controller keeps its actor's id and gets another worker.
_DEMAND_SEEN_BY_THREE_CONTROLLERS: InputSeries = {
    deployment_series("ray_serve_autoscaling_target_ongoing_requests", **_SESSION): "2x",
    **{
        deployment_series("ray_serve_autoscaling_total_requests", WorkerId=worker, **_SESSION): values
        for worker, values in (("w1", "1.8x80"), ("w2", "_x81 1.8x15"), ("w3", "_x97 1.8x"))
    },
}


def _with_gap(living: InputSeries, step: int) -> dict[str, str]:
    """Three consecutive scrapes fail: all series of the target stop and continue, counters have grown."""
    result = {}
    for text, values in {**LIVING_CLUSTER, **living}.items():
        growth = _GROWTH.fullmatch(values)
        before = f"{values}{step}"
        if text.startswith("up{"):
            result[text] = f"1x{step} 0x2 1x"
        elif growth:
            result[text] = f"{before} _x3 {int(growth.group(1)) * (step + 4)}+{growth.group(1)}x"
        else:
            result[text] = f"{before} _x3 {values}"
    return result


def _replaced_replica(healthy: InputSeries) -> dict[str, str]:
    """The replica r1 ends after 100 scrapes and r2 replaces it."""

    def ended(values: str) -> str:
        """A replica's series after its end: gauges go, counters and histograms stay with its node's agent."""
        growth = _GROWTH.fullmatch(values)
        return f"{values}100 {100 * int(growth.group(1))}x" if growth else f"{values}100"

    successor = _healthy_deployment(replica="r2", starts="_x104 ")
    return {text: ended(values) if 'replica="r1"' in text else values for text, values in healthy.items()} | {
        text: values for text, values in successor.items() if 'replica="r2"' in text
    }


def _controllers_that_die(healthy: InputSeries) -> dict[str, str]:
    """Each controller reports what its checkpoint holds, and is killed before it has reached the replicas."""
    lives = {
        series(name, WorkerId=f"w{n}", **_SESSION, **labels): f"_x{16 + 5 * n} {values}"
        for n in range(2, 20)
        for name, labels, values in (
            ("ray_serve_controller_num_control_loops", {"actor_id": "cs1"}, "0+130x1 130x2"),
            ("ray_serve_proxy_status", {"node_id": "n1", "node_ip_address": "10.0.0.1"}, "1x3"),
        )
    }
    return {
        **healthy,
        series("ray_serve_controller_num_control_loops", actor_id="cs1", **_SESSION): "0+130x20",
        **lives,
        series("ray_serve_proxy_status", node_id="x", node_ip_address="10.0.0.1", **_SESSION): "2x20",
        deployment_series("ray_serve_deployment_replica_healthy", replica="r1", **_SESSION): "1x20",
    }
