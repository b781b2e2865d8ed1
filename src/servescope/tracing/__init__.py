"""Traces of Ray Serve, by `RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=servescope.tracing:otlp`.

Needs the extra `tracing` and nothing else. Nothing here may break the application: a failure is logged in one line,
and the deployment continues without tracing.
"""

from __future__ import annotations

from servescope.tracing.batch import trace_batch
from servescope.tracing.setup import instrument_fastapi, otlp

__all__ = ["otlp", "instrument_fastapi", "trace_batch"]
