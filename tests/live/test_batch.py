"""The requests of a batch, which only private names of Serve tell: on every Ray, also one without Serve's tracing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import httpx


def test_a_batch_knows_its_requests_and_nobody_else_does(stack):
    def ask(request_id):
        url = f"{stack.run.serve_url}/traced/batch-ids/a"
        response = httpx.get(url, headers={"x-request-id": request_id}, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    ids = [os.urandom(8).hex() for _ in range(8)]
    with ThreadPoolExecutor(len(ids)) as pool:
        told = dict(zip(ids, pool.map(ask, ids), strict=True))
    assert {tuple(answer["outside"]) for answer in told.values()} == {()}
    batches = {tuple(answer["inside"]) for answer in told.values()}
    assert all(request_id in answer["inside"] for request_id, answer in told.items())
    # Each request in exactly one batch, and at least one batch of several: they come within its half second.
    assert sorted(request_id for batch in batches for request_id in batch) == sorted(ids)
    assert max(map(len, batches)) > 1
