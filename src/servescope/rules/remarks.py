"""What several alerts say alike of what they need, and of why no drill proves them."""

from __future__ import annotations

NEEDS_EXPORTER_FOR_LIMITS = "the servescope exporter (the limit is in no metric of Ray's)"
NO_DRILL_WITHOUT_GPU = (
    "needs a GPU: where there is one, tests/live/test_gpu.py fills and idles it; the unit test carries it"
)
