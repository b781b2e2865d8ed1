"""For the exporter: answers of Ray's REST API, the real sample and generated ones of any size, and a server of them."""

from __future__ import annotations

import copy
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo import ROOT
from demo.stack.ports import LOOPBACK

SAMPLE = ROOT / "tests/fixtures/rest/serve_applications.json"


def sample() -> dict[str, Any]:
    """The answer of a Ray 2.60.0 with four applications, one of which failed to deploy."""
    document: dict[str, Any] = json.loads(SAMPLE.read_text())
    return document


def generated(deployments: int, replicas: int, in_application: int = 20) -> dict[str, Any]:
    """An answer with that many deployments, so many in an application, and as many replicas in all, shared equally.

    Each application was deployed by a Serve config file that lists its deployments.
    """
    document = sample()
    model = document["applications"]["main"]
    deployment = model["deployments"]["Scaler"]
    replica = deployment["replicas"][0]
    document["applications"] = {}
    for number in range(deployments):
        application = document["applications"].setdefault(
            f"app-{number // in_application}", {**copy.deepcopy(model), "deployments": {}}
        )
        one = copy.deepcopy(deployment)
        one["name"] = f"Deployment{number}"
        share = replicas // deployments
        one["replicas"] = [{**replica, "replica_id": f"r{number}x{i}"} for i in range(share)]
        application["deployments"][one["name"]] = one
        submitted = {"name": one["name"], "max_ongoing_requests": 2, "ray_actor_options": {"num_cpus": 0.1}}
        application["deployed_app_config"].setdefault("deployments", []).append(submitted)
    return document


def nodes(markets: Mapping[str, str]) -> dict[str, Any]:
    """An answer of Ray's state API with these nodes: node id to the label ray.io/market-type, "" for no label."""
    listed = [
        {
            "node_id": node,
            "node_ip": "192.0.2.2",
            "is_head_node": False,
            "state": "ALIVE",
            "state_message": None,
            "node_name": "192.0.2.2",
            "resources_total": {"CPU": 8.0, "memory": 1.0e10, "node:192.0.2.2": 1.0},
            "labels": {"ray.io/node-id": node, **({"ray.io/market-type": market} if market else {})},
        }
        for node, market in markets.items()
    ]
    return {"result": True, "msg": "", "data": {"result": {"total": len(listed), "result": listed}}}


class Answer:
    """What the test server answers next: status, body, headers, and what to do before (a delay, for instance)."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.body = body
        self.nodes = json.dumps(nodes({}))  # what /api/v0/nodes answers
        self.status = status
        self.headers: dict[str, str] = {}
        self.token: str | None = None
        self.release: threading.Event | None = None  # no answer before this is set
        self.drip = False  # a byte now and then, for ever
        self.asked: list[tuple[str, str | None]] = []  # path and Authorization of every request
        self.asked_at: list[float] = []  # on the monotonic clock


@contextmanager
def rest_server(document: Any, port: int = 0, tls: tuple[Path, Path] | None = None) -> Iterator[tuple[str, Answer]]:
    """A real HTTP server that answers as Ray's dashboard would; yields its address and what it answers.

    `tls` is a certificate and its key.
    """
    answer = Answer(document if isinstance(document, bytes) else json.dumps(document).encode())
    closing = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            answer.asked.append((self.path, authorization))
            answer.asked_at.append(time.monotonic())
            if answer.release is not None:
                answer.release.wait(30)
            good = answer.nodes.encode() if "/nodes" in self.path else answer.body
            refused = answer.token is not None and authorization != f"Bearer {answer.token}"
            status, body = (401, b"Unauthorized") if refused else (answer.status, good)
            self.send_response(status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "1000000" if answer.drip else str(len(body)))
            self.end_headers()
            while answer.drip and not closing.wait(0.05):
                self.wfile.write(b" ")
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that go away are part of the tests

    with Server((LOOPBACK, port), Handler) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://{LOOPBACK}:{server.server_address[1]}", answer
        finally:
            closing.set()
            server.shutdown()
            thread.join()
