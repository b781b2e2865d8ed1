"""Trace IDs in every log record: Serve's JSON lines include them, and so can a custom formatter."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry import trace

from servescope.tracing.batch import batch_requests, request_ids

_MARK = "_servescope_trace_ids"


def add_trace_ids() -> None:
    """Make loggers add `trace_id`, `span_id` and `request_id` to their records; in a batch, `request_ids`.

    A record factory would add them too early: a logger rejects an `extra` whose key is already on the record, and
    Serve's own access log passes the request ID that way.
    """
    original = logging.Logger.makeRecord
    if getattr(original, _MARK, False):
        return

    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(self, *args, **kwargs)
        for key, value in correlation().items():
            record.__dict__.setdefault(key, value)
        return record

    setattr(make_record, _MARK, True)
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]


def correlation() -> dict[str, Any]:
    """The IDs that link a record to the request being handled."""
    found: dict[str, Any] = {}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        found["trace_id"] = trace.format_trace_id(span.trace_id)
        found["span_id"] = trace.format_span_id(span.span_id)
    ids = request_ids(batch_requests())
    if ids:
        found["request_ids"] = ids
    elif request := _request_id():
        found["request_id"] = request
    return found


def _request_id() -> str:
    try:
        from ray.serve import context

        current = context._serve_request_context.get()
    except (ImportError, AttributeError):
        return ""
    return str(getattr(current, "request_id", "") or "")
