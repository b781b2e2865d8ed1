"""The requests of a batch, from private names of Serve: on every Ray, also one without Serve's tracing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx

from demo import ROOT
from tests.live.versions import ray_folder

LINKED = """
import asyncio, json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ray import __version__, serve
from ray.serve import batching, context
from servescope.tracing import trace_batch
from servescope.tracing.batch import batch_requests

memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
# There is no replica around this script, whose limit it would ask.
batching._BatchQueue._warn_if_max_batch_size_exceeds_max_ongoing_requests = lambda self: None

@serve.batch(max_batch_size=2, batch_wait_timeout_s=60)
async def embed(texts):
    with trace_batch("embed"):
        return texts

async def request(number):
    carrier = {"traceparent": f"00-{number:032d}-00f067aa0ba902b7-01"}
    context._serve_request_context.set(context._RequestContext(request_id=f"r{number}", _ray_trace_ctx=carrier))
    await embed(number)
    return len(batch_requests())

async def main():
    return await asyncio.gather(request(1), request(2))

outside = asyncio.run(main())
(span,) = memory.get_finished_spans()
print(json.dumps({
    "ray": __version__,
    "outside": outside,
    "attributes": dict(span.attributes),
    "links": [[link.context.trace_id, link.attributes["request_id"]] for link in span.links],
}))
"""


def test_the_span_of_a_batch_is_linked_to_its_requests():
    """By that Ray's own Python and batching."""
    done = subprocess.run(
        [f"{ray_folder()}/python", "-c", LINKED],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reported = json.loads(done.stdout)
    assert reported.pop("ray") == (os.environ.get("RAY_VERSION") or importlib.metadata.version("ray"))
    assert reported == {
        "outside": [0, 0],
        "attributes": {"serve.batch.size": 2, "serve.batch.request_ids": ["r1", "r2"]},
        "links": [[1, "r1"], [2, "r2"]],
    }


def test_a_batch_knows_its_requests_and_nobody_else_does(stack):
    def ask(request_id):
        url = f"{stack.run.serve_url}/traced/batch-ids/a"
        response = httpx.get(url, headers={"x-request-id": request_id}, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    ids = [os.urandom(8).hex() for _ in range(8)]
    with ThreadPoolExecutor(len(ids)) as pool:
        reported = dict(zip(ids, pool.map(ask, ids), strict=True))
    assert {tuple(answer["outside"]) for answer in reported.values()} == {()}
    batches = {tuple(answer["inside"]) for answer in reported.values()}
    assert all(request_id in answer["inside"] for request_id, answer in reported.items())
    # Each request in exactly one batch, and at least one batch of several: they come within its half second.
    assert sorted(request_id for batch in batches for request_id in batch) == sorted(ids)
    assert max(map(len, batches)) > 1
