"""Traces of Ray Serve, by `RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=servescope.tracing:otlp`.

Needs the extra `tracing` and nothing else. Nothing here may harm the application: what cannot be done is said in one
line of the log, and the deployment goes on without it.
"""

from __future__ import annotations

from servescope.tracing.batch import trace_batch
from servescope.tracing.setup import instrument_fastapi, otlp

__all__ = ["otlp", "instrument_fastapi", "trace_batch"]
