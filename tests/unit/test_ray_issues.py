"""The defects in docs/ray-issues still exist: every reproduction prints what its page says.

When one of these fails, Ray has fixed it: check whether the bundle's workaround can be removed, and say so on the page.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys

import pytest

from demo import ROOT
from tests.support import markdown

FOLDER = ROOT / "docs/ray-issues"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")


def printed(script: str) -> list[str]:
    """What a reproduction says that it prints: the comment from `# prints:` to `# expected:`."""
    (block,) = re.findall(r"^# prints:(.*?)^# expected: ", script, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("#").strip() for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_reproduction_prints_what_the_page_says(page):
    (script,) = [body for language, body in markdown.read(page).fences if language == "python"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.splitlines() == printed(script), done.stderr[-2000:]


def test_every_page_is_in_the_list():
    assert {link.path for link in markdown.read(FOLDER / "README.md").links} == {page.name for page in PAGES}
    assert len(PAGES) == 8


def test_the_reasons_are_still_in_rays_source():
    """What a reproduction passes in itself, Ray does itself."""
    from ray.serve import batching
    from ray.serve._private import proxy, proxy_state, replica, router

    # proxies-ignore-tracing-config.md
    assert "tracing_config" not in inspect.getsource(proxy_state)
    # span-names-hold-raw-paths.md
    assert "{proxy_request.method} {proxy_request.route_path}" in inspect.getsource(proxy)
    # kind-and-status.md
    assert 'is_error=status_code.startswith(("4", "5"))' in inspect.getsource(proxy)
    assert "set_trace_status(status.is_error, str(exc))" in inspect.getsource(proxy)
    assert "set_span_exception" in inspect.getsource(replica)
    assert "set_trace_status" not in inspect.getsource(replica)
    assert "set_trace_status" not in inspect.getsource(router)
    assert inspect.getsource(router).count("method=request_meta.call_method") == 2
    assert 'trace_name="route_to_replica",\n    )' in inspect.getsource(router)
    # batch-in-one-trace.md
    assert "BatchTraceContextManager(batch[0].trace_context)" in inspect.getsource(batching)
