"""Texts that several alerts share: what they need, and why there is no drill."""

from __future__ import annotations

NEEDS_EXPORTER_FOR_LIMITS = "the servescope exporter (Ray exports no metric of the limit)"
NO_DRILL_WITHOUT_GPU = (
    "needs a GPU: where there is one, tests/live/test_gpu.py fills and idles it; covered by the unit test"
)
