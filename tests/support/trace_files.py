"""Trace files of the Collector and JSON logs of Serve: two requests, one of which failed."""

from __future__ import annotations

import json
from pathlib import Path

A, B = "a" * 32, "b" * 32


def document(
    trace_id: str,
    span_id: str,
    parent: str = "",
    *,
    name: str = "GET /x",
    start_ms: int = 0,
    ms: int = 10,
    status: int = 0,
    service: str = "serve-proxy",
    **attributes: int | str,
) -> str:
    """One line of a trace file with one span; `__` in an attribute's name means a dot."""

    def value(held: int | str) -> dict[str, str]:
        return {"intValue": str(held)} if isinstance(held, int) else {"stringValue": held}

    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + start_ms * 1_000_000),
        "endTimeUnixNano": str(1_700_000_000_000_000_000 + (start_ms + ms) * 1_000_000),
        "attributes": [{"key": key.replace("__", "."), "value": value(held)} for key, held in attributes.items()],
        "status": {"code": status, "message": "it broke\nhere"} if status else {},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})


def write_traces(data: Path) -> Path:
    """Two traces over a rotated and a current file, which ends in the middle of a line."""
    old = [document(A, "a1", request_id="r-a", http__response__status_code=500, status=2, ms=50)]
    new = [
        document(
            A, "a2", "a1", name="replica_handle_request Gateway __call__", start_ms=5, ms=40, service="main.Gateway"
        ),
        document(B, "b1", start_ms=1000, ms=10, request_id="r-b"),
    ]
    data.mkdir()
    (data / "traces-2026-01-01T00-00-00.000.json").write_text("\n".join(old) + "\n")
    (data / "traces.json").write_text("\n".join(new) + "\n" + new[1][:40])
    return data


def write_logs(place: Path) -> Path:
    """Lines of the failed request, its batch, and another one, in a rotated and a current file."""
    place = place / "serve"  # as Ray lays them out
    place.mkdir(parents=True)
    begin = 1_700_000_000_000_000_000
    lines: list[dict[str, object]] = [
        {"trace_id": A, "span_id": "a2", "message": "hello [x]", "deployment": "main_Gateway"},
        {"request_ids": ["r-0", "r-a"], "message": "in a batch", "deployment": "main_Batch"},
        {"trace_id": B, "message": f"speaks of {A}", "deployment": "main_Gateway"},
    ]
    serve = {
        "levelname": "INFO",
        "asctime": "2023-11-14 22:13:20,000",
        "component_name": "replica",
        "application": "main",
    }
    text = [json.dumps({"timestamp_ns": begin + i * 1_000_000, **serve, **line}) for i, line in enumerate(lines)]
    (place / "replica_main_Gateway_x.log").write_text("\n".join([text[2], f"no json {A}"]))
    (place / "replica_main_Batch_x.log").write_text(text[1])
    (place / "replica_main_Gateway_x.log.1").write_text(text[0])
    return place
