"""No secret is in what a snapshot shows or a command prints, and a real Prometheus lets in whom the options let in."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from demo import ROOT
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool
from tests.support.recording_server import recording_server
from tests.support.store_server import store_server

PASSWORD = "s3cr3t:of-basic/auth"
HASHED = "$2b$04$MeTGtM.ngC41k4RhYDS5ou66T0Bra2sltX6t24GZHVJU0r6sLLC9O"
# By place: what a reader could look for, whole and in the forms in which it is sent.
IN_URL, IN_FILE, IN_HEADER = "s3cr3t-in-the-url", "s3cr3t-in-a-bearer-file", "s3cr3t-in-a-header-file"
FORMS = [IN_URL, IN_FILE, IN_HEADER, base64.b64encode(f"reader:{IN_URL}".encode()).decode(), "s3cr3t", "reader:"]


def servescope(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servescope", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", **(env or {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def found(*texts: str) -> list[str]:
    return [form for form in FORMS for text in texts if form in text]


@pytest.mark.parametrize("broken", ["nothing", "traces and logs", "everything", "certificates"])
def test_three_secrets_are_found_nowhere(tmp_path, broken):
    bearer, header = tmp_path / "bearer", tmp_path / "header"
    bearer.write_text(IN_FILE)
    header.write_text(IN_HEADER)
    output = tmp_path / "report.html"
    echo = f"denied: reader:{IN_URL} {IN_FILE} {IN_HEADER} {FORMS[3]}"
    with ExitStack() as stack:
        store = stack.enter_context(store_server())
        if broken == "everything":
            store.answers = dict.fromkeys(("/api/v1/query", "/api/v1/query_range", "/api/v1/rules"), (401, echo))
            store.answers |= {f"/api/v1/label/{name}/values": (401, echo) for name in ("ray_io_cluster", "slo")}
        sent = f"denied: {IN_FILE} {IN_HEADER}"
        body = {"traces": [], "data": {"result": []}} if broken == "nothing" else {"error": sent, "data": sent}
        others = stack.enter_context(recording_server(body, status=200 if broken == "nothing" else 500))
        url = store.url.replace("//", f"//reader:{IN_URL}@")
        more = ("--ca-file", bearer) if broken == "certificates" else ()
        done = servescope(
            *("snapshot", "-d", "slo", "-o", output, "--loki", others.url),
            *("--bearer-token-file", bearer, "--header", f"X-Key=@{header}", *more),
            env={"PROMETHEUS_URL": url, "TEMPO_URL": others.url.replace("//", f"//reader:{IN_URL}@")},
        )
    assert done.returncode == (0 if broken == "nothing" else 1), done.stderr
    page = output.read_text() if output.exists() else ""
    assert bool(page) == (broken in ("nothing", "traces and logs"))
    assert found(page, done.stdout, done.stderr) == []
    if broken != "certificates":
        assert others.sent("X-Key")[0] == IN_HEADER
        assert {*others.sent("Authorization")} == {f"Bearer {IN_FILE}", f"Basic {FORMS[3]}"}
        assert done.stderr.count("\n") == (0 if broken == "nothing" else 1)
    if page:
        assert f"from {store.url}, " in page
    if broken == "nothing":
        assert page.count(f"from {others.url}") == 2


def test_the_preview_names_its_store_without_the_password(tmp_path):
    with (
        store_server() as store,
        subprocess.Popen(
            [sys.executable, "-m", "servescope", "preview", "--port", "0"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "PROMETHEUS_URL": store.url.replace("//", f"//reader:{IN_URL}@"),
            },
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
        finally:
            process.terminate()
    assert line.startswith(f"preview of {store.url}: http://127.0.0.1:")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A real Prometheus that wants a user and a password, below a path."""
    web = tmp_path / "web.yml"
    web.write_text(yaml.safe_dump({"basic_auth_users": {"reader": HASHED}}))
    folder = tmp_path / "store"
    folder.mkdir()
    place = BackfilledPrometheus(folder)
    with place.server(
        f"--web.config.file={web}",
        "--web.external-url=http://127.0.0.1/prometheus",
        ready="/prometheus/-/ready",
        ready_status=401,
    ) as url:
        yield f"{url}/prometheus"


@requires_promtool
def test_a_real_prometheus_with_a_password_below_a_path(guarded, tmp_path):
    password = tmp_path / "password"
    output = tmp_path / "report.html"
    password.write_text(f"reader:{PASSWORD}\n")
    arguments = ("snapshot", "-d", "slo", "-o", output)
    by_url = guarded.replace("//", "//reader:s3cr3t%3Aof-basic%2Fauth@")
    for options in (("-p", guarded, "--basic-auth-file", password), ("-p", by_url)):
        done = servescope(*arguments, *options)
        assert (done.returncode, done.stderr) == (0, "")
        page = output.read_text()
        assert f"from {guarded}, " in page
        assert "<span>Prometheus 2." in page
        assert found(page, done.stdout) == []
        output.unlink()
    done = servescope(*arguments, "-p", guarded)
    said = f"servescope: {guarded}: Prometheus denies access (401: Unauthorized); see --bearer-token-file, "
    assert (done.returncode, done.stderr.startswith(said)) == (1, True)
    assert not output.exists()
    done = servescope(*arguments, "-p", guarded.removesuffix("/prometheus"), "--basic-auth-file", password)
    assert done.returncode == 1
    assert "not a response of Prometheus (404)" in done.stderr
