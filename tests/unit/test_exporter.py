"""The exporter against a real HTTP server that answers as Ray's dashboard does, well and badly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from servescope import __version__
from servescope.clients import ray
from servescope.clients.access import read_headers
from servescope.clients.ray import RayApi
from servescope.errors import ServescopeError
from servescope.exporter.poller import REASONS, Exporter
from servescope.exporter.server import server
from servescope.exporter.state import Detail
from tests.bench.exporter import Measured, broken
from tests.support import promtool
from tests.support.ray_rest_api import generated, rest_server, sample
from tests.support.recording_server import recording_server
from tests.support.servers import running

SECRET = "s3cr3t-t0ken"


def values(text: bytes | str) -> dict[str, float]:
    """The exporter's own figures and the number of deployments, by name; failures by reason."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode() if isinstance(text, bytes) else text):
        for one in family.samples:
            if one.name.startswith("servescope_exporter"):
                found[one.labels.get("reason", one.name)] = one.value
            elif one.name == "servescope_deployment_config_info":
                found["deployments"] = found.get("deployments", 0) + 1
    return found


def exporter(url: str, said: list[str] | None = None, **source: object) -> Exporter:
    lines: list[str] = [] if said is None else said
    return Exporter(RayApi(url=url, **{"timeout_s": 2, **source}), say=lines.append, interval_s=0.1)  # type: ignore[arg-type]


@contextmanager
def serving(subject: Exporter) -> Iterator[str]:
    """The exporter's own HTTP server; yields its address."""
    http = server(subject, "127.0.0.1", 0)
    with running(http) as address:
        yield f"http://{address}"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize(("host", "asked"), [("::1", ["[::1]"]), ("::", ["[::1]", "127.0.0.1"]), ("", ["127.0.0.1"])])
def test_it_listens_on_ipv6(host, asked):
    with rest_server(sample()) as (url, _):
        subject = exporter(url)
        assert subject.poll()
        http = server(subject, host, 0)
        with running(http):
            for name in asked:
                answered = httpx.get(f"http://{name}:{http.server_address[1]}/-/healthz", trust_env=False)
                assert answered.text == "ok\n"


@pytest.mark.parametrize(
    ("host", "said"),
    [("2001:db8::1", r"\[2001:db8::1\]:0: cannot listen"), ("nobody.invalid", "nobody.invalid:0"), ("a" * 70, "aaa:0")],
)
def test_an_address_that_is_not_here_is_one_line(host, said):
    with pytest.raises(ServescopeError, match=said) as raised:
        server(exporter("http://127.0.0.1:1"), host, 0)
    assert "\n" not in str(raised.value)


def test_a_bug_of_the_handler_is_said_and_a_client_that_went_away_is_not(capfd):
    subject = exporter("http://127.0.0.1:1")
    for error, said in (
        (BrokenPipeError(), False),
        (ConnectionResetError(), False),
        (ZeroDivisionError("a bug"), True),
    ):

        def failing(packed: bool = False, error: Exception = error) -> bytes:
            raise error

        subject.metrics = failing  # type: ignore[method-assign]
        with serving(subject) as own, pytest.raises(httpx.HTTPError):
            httpx.get(f"{own}/metrics", trust_env=False)
        assert ("a bug" in capfd.readouterr().err) == said


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_good_answer():
    with rest_server(sample()) as (url, answer):
        subject = exporter(url)
        assert values(subject.metrics()) == {
            **{"servescope_exporter_up": 0, "servescope_exporter_fetches_total": 0},
            "servescope_exporter_build_info": 1,
            **dict.fromkeys(REASONS, 0),
        }, "no age before there are data"
        assert subject.poll()
        found = values(subject.metrics())
        assert f'servescope_exporter_build_info{{version="{__version__}"}} 1.0' in subject.metrics().decode()
        assert answer.asked == [("/api/serve/applications/", None), ("/api/v0/nodes?limit=10000", None)]
    assert (found["servescope_exporter_up"], found["deployments"]) == (1, 7)
    assert 0 <= found["servescope_exporter_data_age_seconds"] < 2
    assert 0 < found["servescope_exporter_fetch_duration_seconds"] < 2


def test_every_help_names_its_source():
    with rest_server(sample()) as (url, _):
        subject = Exporter(RayApi(url=url), say=lambda line: None, detail=Detail(all_states=True, each_replica=True))
        assert subject.poll()
        reported = list(text_string_to_metric_families(subject.metrics().decode()))
    assert len(reported) > 30
    assert [family.name for family in reported if "REST API" not in family.documentation] == [
        "servescope_exporter_build_info"
    ]


@pytest.mark.parametrize(
    ("spoil", "reason", "line"),
    [
        ({"status": 401}, "unauthorized", "401: Ray requires a token or rejected this one; see --token-file"),
        ({"status": 500}, "http_status", "HTTP status 500"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "http_status", "HTTP status 302"),
        ({"body": b"<html>a proxy's page</html>"}, "malformed", "the response is not JSON"),
        ({"body": b""}, "malformed", "the response is not JSON"),
        ({"body": b"\xff\xfe\x00"}, "malformed", "the response is not JSON"),
        ({"body": b"[" * 100_000}, "malformed", "the response is not JSON"),
        ({"body": b"9" * 10_000}, "malformed", "the response is not JSON"),
        ({"body": b'{"result": "ok"}'}, "malformed", "the response has no `applications`"),
        ({"drip": True}, "timeout", "no response within 2 s"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:20],
)
def test_a_bad_answer_leaves_the_last_good_data(spoil, reason, line):
    said: list[str] = []
    with rest_server(sample()) as (url, answer):
        subject = exporter(url, said)
        assert subject.poll()
        before = subject.metrics()
        for name, value in spoil.items():
            setattr(answer, name, value)
        assert not subject.poll()
        assert not subject.poll()
        found = values(subject.metrics())
        assert subject.metrics().startswith(before[: before.index(b"# HELP servescope_exporter")])
        assert (found["servescope_exporter_up"], found["deployments"], found[reason]) == (0, 7, 2)
        assert found["servescope_exporter_fetches_total"] == 3
        assert len(said) == 1, "the same failure is logged once"
        assert line in said[0]
        assert "\n" not in said[0]


@pytest.mark.parametrize("nodes", ["<html>", "{}", '{"data": {"result": {"result": [null, {}, {"node_id": 3}]}}}'])
def test_without_the_nodes_everything_else_is_exported(nodes):
    with rest_server(sample()) as (url, answer):
        answer.nodes = nodes
        subject = exporter(url)
        assert subject.poll()
    assert values(subject.metrics())["deployments"] == 7
    assert b'market_type="spot"' not in subject.metrics()


def test_an_answer_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(ray, "MOST_BYTES", 1 << 20)
    said: list[str] = []
    with rest_server(b'{"applications": "' + b"x" * (2 << 20)) as (url, _):
        assert not exporter(url, said).poll()
    assert "response larger than 1 MiB" in said[0]


def test_a_head_that_goes_and_comes_back():
    said: list[str] = []
    port = closed_port()
    subject = exporter(f"http://127.0.0.1:{port}", said)
    assert not subject.poll()
    with rest_server(sample(), port):
        assert subject.poll()
    assert not subject.poll()
    first = values(subject.metrics())["servescope_exporter_data_age_seconds"]
    until(lambda: values(subject.metrics())["servescope_exporter_data_age_seconds"] > first + 0.2)
    assert values(subject.metrics())["deployments"] == 7
    with rest_server(generated(3, 3), port):
        assert subject.poll()
    found = values(subject.metrics())
    assert (found["servescope_exporter_up"], found["deployments"], found["unreachable"]) == (1, 3, 2)
    assert said[1::2] == ["Serve's REST API responds again"] * 2
    assert "refused" in said[0]


def test_a_scrape_does_not_wait_for_ray():
    with rest_server(sample()) as (url, answer):
        subject = exporter(url)
        assert subject.poll()
        answer.release = threading.Event()  # from now on Ray does not answer
        subject.start()
        until(lambda: len(answer.asked) == 3)
        with serving(subject) as own:
            started = time.monotonic()
            found = values(httpx.get(f"{own}/metrics").text)
            assert time.monotonic() - started < 0.5
            assert (found["servescope_exporter_up"], found["deployments"]) == (1, 7)
        answer.release.set()
        subject.stop()


def test_the_token_comes_from_a_file_or_the_environment_and_goes_nowhere_else(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    said: list[str] = []
    with rest_server(sample()) as (url, answer):
        answer.token = SECRET
        subject = exporter(url, said, token_file=file)
        assert subject.poll()
        file.write_text("another\n")
        assert not subject.poll()
        answer.token = "another"  # Ray's token was replaced, the file followed
        assert subject.poll()
        file.write_text("two words\n")
        assert not subject.poll()
        file.unlink()
        assert not subject.poll()
        assert answer.asked[-1][1] == "Bearer another", "no request without the token that was asked for"
        answer.token = SECRET
        assert not exporter(url, said).poll()
        monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
        assert exporter(url, said).poll()
    assert "the token contains invalid characters" in said[2]
    assert "cannot read the token" in said[3]
    assert not any(word in line for line in said for word in (SECRET, "another", "two words"))
    assert SECRET.encode() not in subject.metrics()


def test_no_proxy_from_the_environment_gets_the_token(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    with rest_server(sample()) as (url, ray), rest_server(sample()) as (proxy_url, proxy):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy_url)
        assert exporter(url).poll()
        assert [token for _, token in ray.asked] == [f"Bearer {SECRET}"] * 2
        assert proxy.asked == []


def test_a_scrape_is_packed_when_the_client_can_unpack():
    with rest_server(sample()) as (url, _):
        subject = exporter(url)
        assert subject.poll()
        with serving(subject) as own:
            plain = httpx.get(f"{own}/metrics", headers={"Accept-Encoding": "identity"})
            packed = httpx.get(f"{own}/metrics", headers={"Accept-Encoding": "gzip"})
            assert packed.headers["Content-Encoding"] == "gzip"
            assert values(packed.text).keys() == values(plain.text).keys()
            assert packed.text.count("\n") == plain.text.count("\n")
            assert int(packed.headers["Content-Length"]) < len(plain.content) / 4
            assert plain.headers["Content-Type"].startswith("text/plain; version=")
            assert httpx.get(f"{own}/-/healthz").text == "ok\n"
            assert httpx.get(f"{own}/anything").status_code == 404
            result = promtool.run("check", "metrics", stdin=plain.text)
            assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("head:8265", "address: not of the form"),
        ("ftp://head", "address: not of the form"),
        (f"http://user:{SECRET}@head", "address: must not contain a user or password"),
        ("http://head:port", "address: not a URL"),
    ],
)
def test_bad_addresses_are_rejected_without_showing_a_password(url, message):
    with pytest.raises(ServescopeError, match=message) as caught:
        RayApi(url=url)
    assert SECRET not in str(caught.value)


def test_headers_from_files_and_variables_are_read_for_each_fetch(tmp_path, monkeypatch):
    (tmp_path / "key").write_text(SECRET)
    monkeypatch.setenv("THEIR_KEY", "first")
    headers = read_headers([f"X-Key=@{tmp_path}/key", "X-Other=env:THEIR_KEY"])
    said: list[str] = []
    with recording_server(status=404) as server:
        fetching = exporter(server.url, said, headers=headers)
        fetching.poll()
        monkeypatch.setenv("THEIR_KEY", "second")
        fetching.poll()
        assert server.sent("X-Key") == [SECRET, SECRET]
        assert server.sent("X-Other") == ["first", "second"]
        (tmp_path / "key").unlink()
        fetching.poll()
        assert len(server.headers) == 2
    assert any("cannot read the credential" in line for line in said)
    assert SECRET not in "".join(said)


def test_an_untrusted_certificate_is_rejected(tmp_path, monkeypatch):
    """Verification is on by default; --ca-file or SSL_CERT_FILE makes the same server good, --no-verify takes it as it
    is."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    said: list[str] = []
    with rest_server(sample(), tls=(certificate, key)) as (url, _):
        assert url.startswith("https://")
        assert not exporter(url, said).poll()
        assert "CERTIFICATE_VERIFY_FAILED" in said[0]
        assert exporter(url, ca_file=certificate).poll()
        assert exporter(url, verify=False).poll()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert exporter(url).poll()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        with pytest.raises(ServescopeError, match="SSL_CERT_FILE or SSL_CERT_DIR: cannot read the certificates"):
            exporter(url)


# ---------------------------------------------------------------------------------------------------------------------
# As a process


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "servescope", "exporter", *arguments]


@contextmanager
def process(arguments: list[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive its test."""
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=env)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def test_the_command_runs_until_it_is_stopped(tmp_path):
    port = closed_port()
    with rest_server(sample()) as (url, _):
        environment = {**os.environ, "RAY_DASHBOARD_ADDRESS": url}
        with process(command("--port", str(port)), env=environment) as running:

            def up() -> bool:
                try:
                    return values(httpx.get(f"http://127.0.0.1:{port}/metrics").text)["servescope_exporter_up"] == 1
                except httpx.HTTPError:
                    return False

            until(up)
            listening = [c for c in psutil.net_connections("tcp") if c.pid == running.pid and c.status == "LISTEN"]
            running.terminate()
            assert running.wait(5) == 0
            assert running.stderr is not None
            assert running.stderr.read() == "servescope: stopping\n"
    addresses = {connection.laddr.ip for connection in listening}
    assert addresses == {"127.0.0.1"}, "loopback by default"


def test_once_prints_the_metrics_or_says_why_not():
    with rest_server(sample()) as (url, _):
        done = subprocess.run(command("--once", "-a", url), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert values(done.stdout)["deployments"] == 7
        taken = command("-a", url, "--port", url.rpartition(":")[2])
        refused = subprocess.run(taken, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "cannot listen" in refused.stderr
    assert refused.stderr.count("\n") == 1
    failed = subprocess.run(command("--once", "-a", url), capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)


def test_a_worker_that_is_killed_costs_one_fetch_and_outlives_nobody():
    """The process that reads the answers may take too much memory; and it ends with the exporter, however that ends."""
    port = closed_port()
    own = f"http://127.0.0.1:{port}/metrics"

    def figures() -> dict[str, float]:
        try:
            return values(httpx.get(own).text)
        except httpx.HTTPError:
            return {}

    with (
        rest_server(sample()) as (url, _),
        process(command("-a", url, "--port", str(port), "--interval", "1")) as running,
    ):
        until(lambda: figures().get("servescope_exporter_up") == 1)
        (worker,) = psutil.Process(running.pid).children()
        worker.kill()
        until(lambda: figures()["worker_died"] == 1)
        assert figures()["deployments"] == 7
        until(lambda: figures()["servescope_exporter_up"] == 1)
        (worker,) = psutil.Process(running.pid).children()
        running.kill()
        until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        assert running.stderr is not None
        said = running.stderr.read()
    assert said.splitlines() == [
        "servescope: the process that parses responses has exited; was it out of memory?",
        "servescope: Serve's REST API responds again",
    ]


def test_memory_stays_flat():
    """Two hundred polls, good and bad, take no more than the first hundred did: of the worker, and of this process."""
    with rest_server(generated(20, 200)) as (url, answer):
        good, subject = answer.body, exporter(url)

        def resident_after(polls: int) -> int:
            for number in range(polls):
                answer.body = b"[" * 50_000 if number % 5 == 4 else good
                assert subject.poll() is (number % 5 != 4)
                subject.metrics(packed=True)
            itself = psutil.Process()
            return sum(member.memory_info().rss for member in (itself, *itself.children()))

        first = resident_after(100)
        assert resident_after(100) - first < 4 << 20


def test_a_thousand_deployments_and_ten_thousand_replicas():
    """The limits of docs/benchmarks.md, with tolerance for a busy machine; `make bench` measures the figures."""
    port = closed_port()
    with rest_server(generated(1000, 10_000)) as (url, _):
        arguments = command("-a", url, "--port", str(port), "--interval", "1")
        with process(arguments) as running:
            own = f"http://127.0.0.1:{port}"
            text = ""

            def fetches() -> int:
                nonlocal text
                try:
                    text = httpx.get(f"{own}/metrics").text
                except httpx.HTTPError:
                    return 0
                return int(float(text.partition("\nservescope_exporter_fetches_total ")[2].split()[0]))

            until(lambda: fetches() >= 4, 60)
            itself = psutil.Process(running.pid)
            family = [itself, *itself.children()]
            resident = sum(member.memory_info().rss for member in family)
            cpu_s = sum(sum(member.cpu_times()[:2]) for member in family)
            count = fetches()
    found = values(text)
    assert found["deployments"] == 1000
    assert cpu_s / count < 2, "processor time, since others may use this machine; start-up included"
    assert text.count("\nservescope_") < 30_000
    assert resident < 200 << 20, f"{resident >> 20} MiB"


def test_the_benchmark_names_an_exceeded_limit():
    kept = Measured(
        polls=[0.5, 1.9],
        asked=[0, 2],
        scrapes=[(0.1, 0.049)],
        peak_bytes=(200 << 20) - 1,
        series=1,
        plain_bytes=1,
        packed_bytes=1,
    )
    assert broken("default", kept) == []
    assert broken(
        "default",
        Measured(
            polls=[0.5, 2.5],
            asked=[0, 2],
            scrapes=[(0.1, 0.06), (0.2, 0.01)],
            peak_bytes=210 << 20,
            series=1,
            plain_bytes=1,
            packed_bytes=1,
        ),
    ) == [
        "default: a poll took 2.50 s, the target is 2 s",
        "default: a scrape took 60.0 ms, the target is 50 ms",
        "default: it held 210 MiB, the target is 200 MiB",
    ]
