"""The shortened time of the drill: the divisor of every duration, and the settings of Ray and the rules that follow."""

from __future__ import annotations

import psutil

from servescope.settings import Settings

SCALE = 7.5  # divides every duration: 15 s between scrapes are 2 s, five minutes are 40 s
SETTINGS = Settings(
    slow_start_ms=60_000,  # a bucket bound that no healthy start reaches, however busy the cores
)
USUAL_NICE = 0  # the priority of what serves


def scaled(seconds: float, scale: float = SCALE) -> float:
    """A duration of the real world in this one, seconds."""
    return seconds / scale


def ray_environment(scale: float = SCALE) -> dict[str, str]:
    """Ray's own intervals, shortened by the same factor."""
    ten, five, thirty = (scaled(seconds, scale) for seconds in (10, 5, 30))
    return {
        "RAY_metrics_report_interval_ms": str(round(1000 * ten)),
        "REPORTER_UPDATE_INTERVAL_MS": str(round(1000 * ten)),
        "RAY_worker_niceness": str(USUAL_NICE),  # on top of the raylet's
        "RAY_SERVE_STATUS_GAUGE_REPORT_INTERVAL_S": f"{ten:.3f}",
        "RAY_SERVE_REPLICA_UTILIZATION_REPORT_INTERVAL_S": f"{ten:.3f}",
        "RAY_SERVE_REPLICA_MAX_PROCESSING_LATENCY_REPORT_INTERVAL_S": f"{ten:.3f}",
        "RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S": f"{five:.3f}",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": f"{ten:.3f}",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": f"{thirty:.3f}",
        # Fewer buckets, with every bound that an alert reads: the node agent renders each of them at every scrape.
        "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "5,20,50,100,200,500,1000,2000,5000,10000,60000",
    }


def memory_threshold(left: int) -> dict[str, str]:
    """Let Ray's memory monitor act when so many bytes more are in use than now."""
    memory = psutil.virtual_memory()
    share = min(0.95, (memory.total - memory.available + left) / memory.total)
    return {"RAY_memory_usage_threshold": f"{share:.3f}"}
