"""What a fault may cost a log agent: the judge of `make drill-logs`, and the tables that it writes."""

from __future__ import annotations

import json

import pytest

from tests.drill.logs import __main__ as drill_logs
from tests.drill.logs.bounds import DEVIATIONS, Bound, bound, breaches
from tests.drill.logs.faults import FAULTS, Outcome

FAULT = "output down for 5 min"
WITH = {"program": "Fluent Bit 1.2.3", "machine": "2 cores, Linux x86_64"}


@pytest.mark.parametrize(
    ("outcome", "allowed", "found"),
    [
        (Outcome(written=1000, lost=0, duplicated=0), Bound(), []),
        (Outcome(written=1000, lost=1, duplicated=0), Bound(), ["1 lost, 0 allowed"]),
        (Outcome(written=1000, lost=8, duplicated=0), Bound(lost=8), []),
        (
            Outcome(written=1000, lost=9, duplicated=3),
            Bound(lost=8, twice=2),
            ["9 lost, 8 allowed", "3 twice, 2 allowed"],
        ),
        (Outcome(written=1000, lost=0, duplicated=1000), Bound(twice=None), []),
        (Outcome(written=1000, lost=0, duplicated=1001), Bound(twice=None), ["1,001 twice, 1,000 allowed"]),
        (Outcome(written=1000, lost=0, duplicated=0, mib=100), Bound(mib=100), []),
        (Outcome(written=1000, lost=0, duplicated=0, mib=101), Bound(mib=100), ["101 MiB of memory, 100 allowed"]),
        (Outcome(written=1000, lost=0, duplicated=0, mib=243, own_mib=45), Bound(own_mib=100), []),
        (
            Outcome(written=1000, lost=0, duplicated=0, mib=243, own_mib=101),
            Bound(own_mib=100),
            ["101 MiB of memory without mapped files, 100 allowed"],
        ),
        (Outcome(written=1000, lost=0, duplicated=0, wrong="not marked"), Bound(), ["not marked"]),
        (Outcome(written=1000, lost=0, duplicated=0, wrong="not marked"), Bound(wrong="not marked"), []),
    ],
)
def test_what_is_worse_than_allowed_is_named(outcome, allowed, found):
    assert breaches(outcome, allowed) == found


def test_every_deviation_is_of_a_fault_that_is_run_and_has_its_reason():
    for (fault, kind), allowed in DEVIATIONS.items():
        assert fault in FAULTS
        assert kind in drill_logs.FAULT_AGENTS
        assert allowed.why
    assert {fault for fault in FAULTS if bound(fault, "fluent-bit").lost} == {
        "kill -9 and start, eight times",
        "rotation while it is down",
    }
    assert {fault for fault in FAULTS if bound(fault, "otelcol").lost} == {"kill -9 and start, eight times"}


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Results of a Fluent Bit, kept in a place of their own; the function adds one."""
    monkeypatch.setattr(drill_logs, "RESULTS", tmp_path / "drill-logs.json")
    monkeypatch.setattr(drill_logs, "measured_with", lambda kind: WITH)

    def add(fault: str, outcome: Outcome, **other: str) -> None:
        result = vars(outcome) | WITH | {"commit": "abc1234", "date": "2026-11-25"} | other
        drill_logs.keep(fault, "fluent-bit", result)

    return add


def test_the_table_has_figures_commit_day_and_what_is_worse(results):
    results(FAULT, Outcome(written=225_752, lost=0, duplicated=0, note="at most 76 MiB of memory", mib=76))
    results("a line of 10 MB", Outcome(written=1001, lost=2, duplicated=0), commit="def5678")
    text = drill_logs.tables()
    assert "Measured with Fluent Bit 1.2.3 (2 cores, Linux x86_64)." in text
    assert f"| {FAULT} | 225,752 | 0 | 0 | not run | |  | 2026-11-25 abc1234 |" in text
    assert "| a line of 10 MB | 1,001 | 2 | 0 | not run | |  | 2026-11-25 def5678 |" in text
    assert "- a line of 10 MB, Fluent Bit to Loki: **worse than allowed**: 2 lost, 0 allowed" in text
    assert drill_logs.worse() == ["Fluent Bit to Loki: a line of 10 MB: 2 lost, 0 allowed"]
    drill_logs.keep(
        FAULT,
        "otelcol",
        vars(Outcome(written=9, lost=0, duplicated=0)) | WITH | {"commit": "def5678", "date": "2026-11-26"},
    )
    when = "2026-11-25 abc1234 (Fluent Bit to Loki), 2026-11-26 def5678 (Collector to Loki (OTLP))"
    assert f"| {FAULT} | 225,752 | 0 | 0 | 9 | 0 | 0 | {when} |" in drill_logs.tables()


@pytest.mark.parametrize("other", [{"program": "Fluent Bit 1.2.2"}, {"machine": "8 cores, Linux aarch64"}])
def test_results_of_another_program_or_machine_stay_out(results, other):
    results(FAULT, Outcome(written=1000, lost=5, duplicated=0), **other)
    assert f"| {FAULT} | not run | |  | not run | |  |  |" in drill_logs.tables()
    assert drill_logs.worse() == []
    assert json.loads(drill_logs.RESULTS.read_text())[FAULT]["fluent-bit"]["lost"] == 5


def test_a_drill_that_is_worse_than_allowed_fails_and_still_writes_the_page(results, monkeypatch, tmp_path, capsys):
    results("a line of 10 MB", Outcome(written=1001, lost=2, duplicated=0))
    page = tmp_path / "logs.md"
    marks = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("loggers", "log-costs"))
    page.write_text(marks + "<!-- drill-logs -->\nold\n<!-- /drill-logs -->\nafter\n")
    monkeypatch.setattr(drill_logs, "PAGE", page)
    monkeypatch.setattr(drill_logs, "find", lambda program: f"/opt/{program}")
    monkeypatch.setattr(drill_logs.sys, "argv", ["drill_logs", "--only", "nothing is called so"])
    assert drill_logs.main() == 1
    assert "worse than allowed: Fluent Bit to Loki: a line of 10 MB: 2 lost, 0 allowed" in capsys.readouterr().err
    assert "\nold\n" not in page.read_text()
    assert page.read_text().endswith("<!-- /drill-logs -->\nafter\n")


def test_the_page_has_the_current_cost_of_each_choice():
    assert drill_logs.costs() in drill_logs.PAGE.read_text()


def test_the_page_has_the_table_of_loggers():
    assert drill_logs.printed_by_loggers() in drill_logs.PAGE.read_text()
