"""The demo: a Ray Serve application, its load, and the local processes that watch it.

app/ holds the Serve applications and load/ what is sent to them; stack/ runs them with everything that watches them;
smoke/ checks that all of it works. The programs: local.py (`make demo`), deploy.py (in the containers of `make up`),
sizing.py (`make steps`), screenshots.py (`make pictures`), smoke/ (`make smoke`).
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository: the demo and the tests run from a checkout."""
