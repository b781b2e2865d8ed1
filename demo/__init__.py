"""The demo: a Ray Serve application, its load, and the local processes that monitor it.

app/ has the Serve applications, load/ their traffic; stack/ runs them with the monitoring; smoke/ checks that
everything works. The programs: local.py (`make demo`), deploy.py (in the containers of `make up`),
sizing.py (`make steps`), screenshots.py (`make pictures`), smoke/ (`make smoke`).
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the repository: demo and tests run from a checkout."""
