"""`servescope trace`: one request in the terminal."""

from __future__ import annotations

import tempfile

import pytest
from typer.testing import CliRunner

from demo.stack.components.collector import collector, trace_files
from demo.stack.ports import Ports
from demo.stack.run import Run
from servescope.cli import app
from servescope.errors import ServescopeError
from tests.support.trace_files import A, document, write_logs, write_traces


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
        "+0.0 ms  log INFO main/Gateway: hello [x]",
        "+1.0 ms  log INFO main/Batch: in a batch",
    ]


def test_lists(folder):
    slowest = CliRunner().invoke(app, ["trace", "--slowest", "1", "--traces", str(folder)]).output
    assert slowest == f"2023-11-14 22:13:20Z       50.0 ms  failed  500  GET /x  {A}\n"
    assert CliRunner().invoke(app, ["trace", "--errors", "--traces", str(folder)]).output == slowest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "pass exactly one of REQUEST, --slowest N, --errors"),
        (["x", "--errors"], "pass exactly one of REQUEST, --slowest N, --errors"),
        (["nothing"], "no trace with ID nothing in "),
        (["r-a", "--logs", "/no/such"], "/no/such: not a log directory"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, says):
    result = CliRunner().invoke(app, ["trace", *arguments, "--traces", str(folder)])
    assert isinstance(result.exception, ServescopeError)
    assert says in str(result.exception)


def shown(folder, *lines: str) -> tuple[str, list[str]]:
    """What the command says of the one trace: on stderr, and line by line."""
    (folder / "traces.json").write_text("\n".join(lines) + "\n")
    result = CliRunner().invoke(app, ["trace", A, "--traces", str(folder), "--logs", str(folder)])
    assert result.exit_code == 0, result.exception
    return result.stderr, result.stdout.splitlines()


def test_twelve_spans_delivered_twice_are_a_tree_of_twelve_lines(tmp_path):
    chain = [document(A, f"s{n}", f"s{n - 1}" if n else "", start_ms=n) for n in range(12)]
    _, lines = shown(tmp_path, *chain, *chain)
    assert len(lines) == 1 + 12


@pytest.mark.parametrize("parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"r": "", "a": "b", "b": "a", "c": "b"}])
def test_each_span_of_a_cycle_is_one_line(tmp_path, parents):
    _, lines = shown(tmp_path, *(document(A, span, parent) for span, parent in parents.items()))
    assert len(lines) == 1 + len(parents)


def test_a_deep_chain_is_no_error(tmp_path):
    _, lines = shown(tmp_path, *(document(A, f"s{n}", f"s{n - 1}") for n in range(1500)))
    assert len(lines) > 200  # what is deeper than a line is wide is not drawn


def test_skipped_lines_are_said_on_stderr(tmp_path):
    told, lines = shown(tmp_path, "[]", document(A, "a1"))
    skipped, without_logs = told.splitlines()
    assert skipped == f"servescope: {tmp_path / 'traces.json'}: skipped lines that hold no OTLP traces: 1"
    assert without_logs.startswith(f"servescope: no log lines: {tmp_path}: no log files")
    assert len(lines) == 2


def test_what_a_client_sends_is_no_markup(tmp_path):
    _, lines = shown(tmp_path, document(A, "a1", request_id="[/red]", http__response__status_code="[/x]"))
    assert "[/x]" in lines[0]
    assert lines[0].endswith("request [/red]")


def test_the_logs_are_those_of_the_ray_whose_traces_they_are(folder, logs, tmp_path, monkeypatch):
    def lines_of_logs() -> int:
        return CliRunner().invoke(app, ["trace", "r-a", "--traces", str(folder)]).output.count("  log INFO")

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lines_of_logs() == 0
    (tmp_path / "ray/session_latest/logs").mkdir(parents=True)
    logs.rename(tmp_path / "ray/session_latest/logs/serve")
    assert lines_of_logs() == 2
    # The demo's Ray has ended and its folder is gone: what another one wrote is of no request here.
    (folder / "serve-logs").symlink_to(tmp_path / "gone")
    assert lines_of_logs() == 0
    (tmp_path / "ray").rename(tmp_path / "gone-elsewhere")
    (tmp_path / "gone").symlink_to(tmp_path / "gone-elsewhere/session_latest/logs/serve")
    assert lines_of_logs() == 2


def test_the_demo_links_its_logs_beside_its_traces(tmp_path, monkeypatch):
    run = Run(directory=tmp_path / "run", ports=Ports.from_base(27000), serve_config=tmp_path / "serve.yaml")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    serve_logs = tmp_path / "t/servescope-27002/session_latest/logs/serve"
    serve_logs.mkdir(parents=True)
    for _ in range(2):
        collector(run).prepare()
        assert (trace_files(run) / "serve-logs").resolve() == serve_logs
