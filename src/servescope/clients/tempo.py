"""A client of Tempo's search API (TraceQL)."""

from __future__ import annotations

from servescope.clients.access import PUBLIC, Access
from servescope.clients.http import HttpApi, json_or_refused
from servescope.clients.model import TraceSummary

TIMEOUT_S = 15.0
FAILED_TRACES = "{ status = error }"
# Tempo returns any matching traces, not the slowest: query from slow to fast until there are enough.
SLOW_TRACES = ("{ duration > 10s }", "{ duration > 1s }", "{ duration > 100ms }", "{}")


def search(url: str, start: float, end: float, *, enough: int, access: Access = PUBLIC) -> list[TraceSummary]:
    """Failed and slow traces of a time range (unix seconds), in any order; up to `enough` slow ones.

    Raises:
        ServescopeError: Tempo is unreachable, rejects the search, or returns an invalid response.
    """
    found: dict[str, TraceSummary] = {}
    with HttpApi(url, "Tempo", timeout_s=TIMEOUT_S, access=access) as api:
        for query in (FAILED_TRACES, *SLOW_TRACES):
            if sum(not trace.failed for trace in found.values()) >= enough:
                break
            parameters = {"q": query, "start": f"{start:.0f}", "end": f"{end:.0f}", "limit": "100"}
            for trace in _ask(api, parameters, failed=query == FAILED_TRACES):
                found.setdefault(trace.trace_id, trace)
    return list(found.values())


def _ask(api: HttpApi, parameters: dict[str, str], *, failed: bool) -> list[TraceSummary]:
    body = json_or_refused(api, api.get("/api/search", parameters))
    found: list[TraceSummary] = []
    with api.reading():
        found = [
            TraceSummary(
                trace_id=str(item["traceID"]),
                service=str(item.get("rootServiceName", "")),
                name=str(item.get("rootTraceName", "")),
                start_ns=int(item["startTimeUnixNano"]),
                ms=float(item.get("durationMs", 0)),
                failed=failed,
            )
            for item in body.get("traces") or []
        ]
    return found
