"""The client of Prometheus where something else answers, or nothing does."""

from __future__ import annotations

import pytest

from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from tests.support.stub_server import stub_server


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("<html>", 200, r"not a response of Prometheus \(200\)"),
        ([1], 200, "Prometheus rejected the query: not a JSON object"),
        ({"status": "error", "error": "unknown label"}, 400, "Prometheus rejected the query: unknown label"),
        ({"status": "error"}, 500, "Prometheus rejected the query: no reason given"),
    ],
    ids=str,
)
def test_what_is_no_answer_is_one_line(body, status, says):
    with stub_server(body, status) as (url, _), Prometheus(f"{url}/") as prometheus:
        assert prometheus.url == url
        with pytest.raises(ServescopeError, match=f"^{url}: {says}$"):
            prometheus.label_values("application", None, start=0, end=60)
