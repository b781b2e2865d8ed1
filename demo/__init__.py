"""The demo: a Ray Serve application, its load, and the local processes that watch it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository: the demo and the tests run from a checkout."""
