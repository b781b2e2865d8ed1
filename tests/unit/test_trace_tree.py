"""`servescope trace`: one request in the terminal."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from servescope.cli import app
from servescope.errors import ServescopeError
from tests.support.trace_files import A, write_logs, write_traces


@pytest.fixture
def folder(tmp_path):
    return write_traces(tmp_path / "collector")


@pytest.fixture
def logs(tmp_path):
    return write_logs(tmp_path / "logs")


def test_the_tree(folder, logs):
    shown = CliRunner().invoke(app, ["trace", "r-a", "--traces", str(folder), "--logs", str(logs)])
    assert shown.exit_code == 0
    lines = [line.strip(" │├└─") for line in shown.output.splitlines()]
    assert lines == [
        f"2023-11-14 22:13:20Z       50.0 ms  failed  500  GET /x  {A}  request r-a",
        "+0.0 ms      50.0 ms  serve-proxy (server)  GET /x  http.response.status_code=500  it broke",
        "+5.0 ms      40.0 ms  main.Gateway (server)  replica_handle_request Gateway __call__",
        "+0.0 ms  log INFO main_Gateway: hello [x]",
        "+1.0 ms  log INFO main_Batch: in a batch",
    ]


def test_lists(folder):
    slowest = CliRunner().invoke(app, ["trace", "--slowest", "1", "--traces", str(folder)]).output
    assert slowest == f"2023-11-14 22:13:20Z       50.0 ms  failed  500  GET /x  {A}\n"
    assert CliRunner().invoke(app, ["trace", "--errors", "--traces", str(folder)]).output == slowest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of REQUEST, --slowest N, --errors"),
        (["x", "--errors"], "give one of REQUEST, --slowest N, --errors"),
        (["nothing"], "nothing: is the id of none of the 2 traces"),
        (["r-a", "--logs", "/no/such"], "/no/such: not a log directory"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, says):
    result = CliRunner().invoke(app, ["trace", *arguments, "--traces", str(folder)])
    assert isinstance(result.exception, ServescopeError)
    assert says in str(result.exception)
