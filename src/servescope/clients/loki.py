"""A client of Loki's query API (LogQL)."""

from __future__ import annotations

from servescope.clients.access import PUBLIC, Access
from servescope.clients.http import HttpApi, json_or_refused
from servescope.clients.model import LogRecord

TIMEOUT_S = 15.0
LIMIT = 5000  # per response: Loki's own limit


def records_around(url: str, query: str, *, at: float, seconds: float, access: Access = PUBLIC) -> list[LogRecord]:
    """Loki's records around a time (unix seconds), stream by stream.

    Raises:
        ServescopeError: Loki is unreachable, rejects the query, or returns an invalid response.
    """
    parameters = {
        "query": query,
        "start": f"{(at - seconds) * 1e9:.0f}",
        "end": f"{(at + seconds) * 1e9:.0f}",
        "limit": str(LIMIT),
        "direction": "forward",
    }
    records = []
    with HttpApi(url, "Loki", timeout_s=TIMEOUT_S, access=access) as api:
        body = json_or_refused(api, api.get("/loki/api/v1/query_range", parameters))
        with api.reading():
            for stream in body["data"]["result"]:
                labels = stream["stream"]
                source = "/".join(labels[name] for name in ("application", "deployment") if labels.get(name))
                for entry in stream["values"]:
                    records.append(
                        LogRecord(
                            time_ns=int(entry[0]),
                            source=source or labels.get("component", ""),
                            level=labels.get("level", ""),
                            text=str(entry[1]),
                        )
                    )
    return records
