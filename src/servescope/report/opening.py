"""The time range on which a page opens when none is asked for: the dashboard's own, or less while there is less."""

from __future__ import annotations

from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from servescope.grafana.templating import parse_time

# Start, seconds, words; the shortest first.
SPANS = (
    ("now-5m", 300, "5 minutes"),
    ("now-15m", 900, "15 minutes"),
    ("now-30m", 1800, "30 minutes"),
    ("now-1h", 3600, "hour"),
    ("now-3h", 3 * 3600, "3 hours"),
    ("now-6h", 6 * 3600, "6 hours"),
    ("now-12h", 12 * 3600, "12 hours"),
    ("now-1d", 86400, "day"),
    ("now-2d", 2 * 86400, "2 days"),
    ("now-7d", 7 * 86400, "7 days"),
)


def opening_start(prometheus: Prometheus, default: str, now: float) -> str:
    """Where the page begins: `default` (Grafana's syntax), or the shortest of SPANS that holds all samples of `up`.

    A Prometheus that has been up for two minutes would else show all of them at the right edge of an hour.

    Raises:
        ServescopeError: `default` is no time.
    """
    start = parse_time(default, now, what="from")
    try:
        if _scraped(prometheus, start) or not _scraped(prometheus, now):
            return default  # there is more than that, or no way to know, as in a store without `up`
        shorter = ((name, now - seconds) for name, seconds, _ in SPANS if now - seconds > start)
        return next((name for name, begin in shorter if not _scraped(prometheus, begin)), default)
    except ServescopeError:
        return default  # what the page asks next says it better


def words(start: str) -> str:
    """One of SPANS in words; "" for another start."""
    return next((text for name, _, text in SPANS if name == start), "")


def _scraped(prometheus: Prometheus, at: float) -> bool:
    return bool(prometheus.query("count(up)", at))
