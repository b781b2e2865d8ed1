"""What the demo runs of Loki and the agents, by what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import local
from demo.stack import logs
from demo.stack.components import fluent_bit, log_collector
from demo.stack.ports import Ports
from demo.stack.run import Run

ALL = {"loki", "fluent-bit", "otelcol"}


@pytest.fixture
def installed(monkeypatch):
    def only(programs: set[str]) -> None:
        for module in (logs, fluent_bit, log_collector):
            monkeypatch.setattr(module, "find", lambda program: f"/opt/{program}" if program in programs else None)

    return only


@pytest.mark.parametrize(
    ("programs", "parts", "missing", "jobs"),
    [
        (ALL, ["loki", "fluent-bit"], "", 2),
        ({"loki", "otelcol"}, ["loki", "log-collector"], "", 2),
        ({"otelcol"}, ["log-collector"], "", 2),
        ({"otelcol", "fluent-bit"}, ["log-collector"], "", 2),
        ({"fluent-bit"}, ["fluent-bit"], "neither loki nor otelcol is installed", 2),
        ({"loki"}, [], "neither fluent-bit nor otelcol is installed", 0),
        (set(), [], "neither fluent-bit nor otelcol is installed", 0),
    ],
)
def test_an_agent_runs_wherever_there_is_one(installed, tmp_path, programs, parts, missing, jobs):
    installed(programs)
    run = Run(directory=tmp_path, ports=Ports.from_base(27000), serve_config=Path("serve_config.yaml"))
    assert [part(run).name for part in logs.components()] == parts
    assert missing in logs.missing()
    assert bool(missing) == bool(logs.missing())
    assert len(logs.scrape_jobs(run)) == jobs
    assert (local.smoke_addresses(run).loki is not None) == ("loki" in parts)  # else the demo waits for it and fails


def test_without_loki_lines_are_written_to_files_or_events_are_counted(installed, tmp_path):
    run = Run(directory=tmp_path, ports=Ports.from_base(27000), serve_config=Path("serve_config.yaml"))
    installed({"fluent-bit", "otelcol"})
    assert fluent_bit.fluent_bit(run).env["RAY_LOGS_TO"] == "stdout"
    written = log_collector.log_collector(run)
    assert written.env["LOGS_TO"] == "[file/logs, count/events]"
    written.prepare()
    assert list(tmp_path.glob("collected-logs/*")) == []
    assert written.env["LOGS_DIR"] == str(tmp_path / "collected-logs")
    installed(ALL)
    assert fluent_bit.fluent_bit(run).env["RAY_LOGS_TO"] == "loki"
    assert log_collector.log_collector(run).env["LOGS_TO"] == "[otlp_http/logs, count/events]"
