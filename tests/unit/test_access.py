"""Credentials: from files and the environment, read again for each request, and never in what is shown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from servescope.clients.access import Access, HeaderSource, parse_address, read_headers, redacted_url
from servescope.clients.http import HttpApi, Unavailable
from servescope.clients.loki import records_around
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from tests.support.recording_server import recording_server

SECRET = "s3cr3t-only-for-this-test"


def secret_file(folder: Path, text: str = SECRET) -> Path:
    path = folder / "secret"
    path.write_text(f"{text}\n")
    return path


@pytest.mark.parametrize(
    ("text", "url", "authorization"),
    [
        ("http://h:9090/", "http://h:9090", ""),
        ("https://h/prometheus/", "https://h/prometheus", ""),
        ("https://u:p%2F%40@h/x", "https://h/x", "Basic dTpwL0A="),
        ("https://token@h", "https://h", "Basic dG9rZW46"),
        ("http://[::1]:9090", "http://[::1]:9090", ""),
    ],
)
def test_an_address_is_shown_without_its_user_and_password(text, url, authorization):
    address = parse_address(text, "Prometheus")
    assert (address.url, address.authorization) == (url, authorization)
    assert redacted_url(text) == url
    assert "Basic" not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{SECRET}/x@host",  # an unescaped slash: the host would be "user"
        f"https://user:12/{SECRET}@host",
        f"https://host/?token={SECRET}",
        f"https://user:{SECRET}@",
        f"ftp://user:{SECRET}@host",
        f"user:{SECRET}@host",
    ],
)
def test_a_bad_address_is_one_line_without_the_credential(text):
    with pytest.raises(ServescopeError, match=r"^Loki: the address is not of the form http://HOST:PORT") as raised:
        parse_address(text, "Loki")
    assert SECRET not in str(raised.value)
    assert SECRET[:6] not in str(raised.value)


@pytest.mark.parametrize("text", ["localhost:9090", "http://localhost:port", "http://[::1", "", "http://"])
def test_a_bad_address_without_a_credential_is_named(text):
    with pytest.raises(ServescopeError, match=r"^Loki: the address .* is not of the form") as raised:
        parse_address(text, "Loki")
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("a.localhost", True),
        ("127.example.com", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_what_is_this_machine(host, loopback):
    assert parse_address(f"http://{host}:1", "Loki").loopback is loopback


def test_headers_come_from_files_and_variables(tmp_path, monkeypatch):
    path = secret_file(tmp_path)
    monkeypatch.setenv("THEIR_KEY", "k")
    sources = read_headers([f"X-Key=@{path}", "X-Other=env:THEIR_KEY"])
    assert sources == (HeaderSource("X-Key", path), HeaderSource("X-Other", variable="THEIR_KEY"))
    assert Access(headers=sources, tenant="team").request_headers() == {
        "X-Key": SECRET,
        "X-Other": "k",
        "X-Scope-OrgID": "team",
    }
    basic = secret_file(tmp_path, "user:päss")
    assert Access(basic_auth_file=basic).request_headers() == {"Authorization": "Basic dXNlcjpww6Rzcw=="}


@pytest.mark.parametrize("text", [f"X-Key={SECRET}", f"X-Key: {SECRET}", SECRET, f"{SECRET}==", "X=@", "X=env:", "=@f"])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(text):
    with pytest.raises(ServescopeError, match=r"^--header: not of the form NAME=@FILE .*\(ps\)$") as raised:
        read_headers([text])
    assert SECRET not in str(raised.value)


def refusal(**access: Any) -> str:
    with pytest.raises(ServescopeError) as raised:
        Access(**access)
    return str(raised.value)


def test_credentials_that_cannot_be_sent_are_one_line_before_anything_is_asked(tmp_path):
    path = tmp_path / "secret"
    assert refusal(bearer_token_file=path) == f"{path}: cannot read the credential (No such file or directory)"
    path.write_bytes(b"\xff\xfe")
    assert refusal(bearer_token_file=path) == f"{path}: cannot read the credential (not plain text)"
    for text in (f"{SECRET}\nb", f"{SECRET}ä"):
        path.write_text(text)
        assert refusal(bearer_token_file=path) == f"{path}: holds characters that a header cannot carry"
    path.write_text(" \n")
    assert refusal(bearer_token_file=path) == f"{path}: empty"
    path.write_text(SECRET)
    assert refusal(basic_auth_file=path) == f"{path}: not of the form user:password"
    both = refusal(bearer_token_file=path, headers=(HeaderSource("authorization", path),))
    assert both.startswith("give only one of --bearer-token-file, ")
    assert refusal(headers=(HeaderSource("X", variable="NOT_SET_HERE"),)) == "environment variable NOT_SET_HERE: empty"


def test_a_token_is_read_again_for_each_request(tmp_path):
    path = secret_file(tmp_path, "first")
    with recording_server() as server, HttpApi(server.url, "Loki", access=Access(bearer_token_file=path)) as api:
        api.get("/a", {})
        path.write_text("second")
        api.get("/a", {})
    assert server.sent("Authorization") == ["Bearer first", "Bearer second"]


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(SECRET,))
    writer.start()
    access = Access(bearer_token_file=pipe)
    writer.join()
    assert access.request_headers() == access.request_headers() == {"Authorization": f"Bearer {SECRET}"}


def test_the_user_in_an_address_is_for_that_server_alone(tmp_path):
    access = Access(bearer_token_file=secret_file(tmp_path), tenant="t")
    with recording_server() as one, recording_server() as other:
        with HttpApi(one.url.replace("//", "//u:p@"), "Loki", access=access) as api:
            api.get("/a", {})
        with HttpApi(other.url, "Tempo", access=access) as api:
            api.get("/a", {})
    assert one.sent("Authorization") == ["Basic dTpw"]
    assert other.sent("Authorization") == [f"Bearer {SECRET}"]
    assert one.sent("X-Scope-OrgID") == other.sent("X-Scope-OrgID") == ["t"]


def test_a_redirect_takes_no_credential_elsewhere(tmp_path):
    access = Access(bearer_token_file=secret_file(tmp_path))
    with (
        recording_server() as other,
        recording_server(status=307, location=f"{other.url}/x") as server,
        HttpApi(server.url, "Loki", access=access) as api,
        pytest.raises(ServescopeError, match="redirects"),
    ):
        api.get("/a", {})
    assert (len(server.headers), other.headers) == (1, [])


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_a_server_that_repeats_the_credential_is_not_quoted(tmp_path, status):
    echo = f"user:{SECRET} and {SECRET} and Basic dXNlcjpzM2NyM3Qtb25seS1mb3ItdGhpcy10ZXN0"
    access = Access(basic_auth_file=secret_file(tmp_path, f"user:{SECRET}"))
    for body in (echo, {"status": "error", "error": echo}):
        with recording_server(body, status=status) as server, Prometheus(server.url, access=access) as prometheus:
            for ask in (
                lambda url=server.url: records_around(url, "{}", at=0, seconds=1, access=access),
                lambda: prometheus.query("up"),
            ):
                with pytest.raises(ServescopeError) as raised:
                    ask()
                assert SECRET not in str(raised.value)
                assert "dXNlcjpzM2Ny" not in str(raised.value)


def test_what_lets_nobody_in_says_which_options_there_are():
    with (
        recording_server("no org id", status=401) as server,
        HttpApi(server.url, "Loki") as api,
        pytest.raises(Unavailable, match=rf"^{server.url}: Loki denies access \(401: no org id\); see .*--tenant$"),
    ):
        api.get("/a", {})


def test_an_answer_that_drips_ends_with_the_time():
    with (
        recording_server("x" * 50, drip_s=0.1) as server,
        HttpApi(server.url, "Loki", timeout_s=0.5) as api,
        pytest.raises(ServescopeError, match=r"Loki is unreachable \(the answer takes too long\)$"),
    ):
        api.get("/a", {})


PROXIED = """
import sys
from servescope.clients.http import HttpApi
from servescope.errors import ServescopeError
try:
    HttpApi(sys.argv[1], "Loki", timeout_s=5).get("/a", {})
except ServescopeError as error:
    print(error)
"""


@pytest.mark.parametrize(("host", "proxied"), [("127.0.0.1", False), ("localhost", False), ("elsewhere.invalid", True)])
def test_no_proxy_of_the_environment_is_asked_for_this_machine(host, proxied):
    with recording_server() as proxy, recording_server() as server:
        port = server.url.rpartition(":")[2]
        env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        env |= {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url}
        command = [sys.executable, "-c", PROXIED, f"http://{host}:{port}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (len(proxy.headers), len(server.headers)) == ((1, 0) if proxied else (0, 1))
        # NO_PROXY is heeded as well.
        if proxied:
            env["NO_PROXY"] = "elsewhere.invalid"
            subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
            assert len(proxy.headers) == 1


@pytest.mark.parametrize("proxy", [f"socks9://u:{SECRET}@h:1", f"http://u:{SECRET}@h:port", f"socks5://u:{SECRET}@h:1"])
def test_a_bad_proxy_is_one_line_without_its_password(proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ServescopeError, match=r"^HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: ") as raised:
        HttpApi("http://elsewhere.invalid", "Loki")
    assert SECRET not in str(raised.value)
