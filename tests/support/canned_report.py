"""Panels over invented answers, and a report in which every text is hostile."""

from __future__ import annotations

from typing import Any

from servescope.clients.model import LogRecord, TraceSummary
from servescope.grafana.templating import Interpolation
from servescope.report import views
from servescope.report.model import Board, FiredAlert, Logs, Report, Section, Traces, View
from servescope.report.queries import Series, TargetAnswer, Window

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
WINDOW = Window(1000, 1060, step_s=15)
SCOPE = Interpolation({}, {})


def answer(ref: str, *series: tuple[dict[str, str], list[float]], legend: str = "{{deployment}}") -> TargetAnswer:
    points = [Series(labels, [(1000 + 15 * i, v) for i, v in enumerate(values)]) for labels, values in series]
    return TargetAnswer(ref=ref, expression="x", legend=legend, series=points)


def panel(kind: str, answers: list[TargetAnswer], **model: Any) -> View:
    base = {"type": kind, "title": "P", "description": "D", "gridPos": {"w": 8, "h": 8}, "options": {}}
    return views.view(base | model, answers, WINDOW, scope=SCOPE, identity="p")


def hostile_report() -> Report:
    hostile = answer("A", ({"deployment": HOSTILE}, [1, 2, 3, 4, 5]))
    table = panel("table", [hostile])
    config = {"defaults": {"unit": "reqps"}, "overrides": []}
    shown = [
        table,
        panel("timeseries", [hostile], fieldConfig=config),
        panel("bargauge", [hostile], fieldConfig=config),
    ]
    shown += [panel("stat", [hostile, hostile]), panel("state-timeline", [hostile])]
    for index, view in enumerate(shown):
        view.id = f"p{index}"
    board = Board(
        uid="b",
        title=HOSTILE,
        description=HOSTILE,
        sections=[Section(HOSTILE, shown, False)],
        marks=[],
        selections={},
        options={},
    )
    trace = TraceSummary(trace_id=HOSTILE, service=HOSTILE, name=HOSTILE, start_ns=1_000_000, ms=5, failed=True)
    return Report(
        window=WINDOW,
        created=1060,
        source=HOSTILE,
        boards=[board],
        alerts=[
            FiredAlert(
                name=HOSTILE,
                severity="critical",
                labels=HOSTILE,
                summary=HOSTILE,
                runbook_url="",
                runbook=HOSTILE,
                runs=[(1000_000, 1015_000, "firing")],
            )
        ],
        versions={"servescope": "0", "Ray": HOSTILE},
        traces=Traces(source=HOSTILE, slowest=[trace], failing=[trace]),
        logs=Logs(
            source=HOSTILE,
            around=1_000_000,
            lines=[LogRecord(time_ns=10**12, source=HOSTILE, level=HOSTILE, text=HOSTILE)],
            left_out=0,
        ),
    )


def alerting_report() -> Report:
    """One with alerts in every state: firing, resolved, pending at the end for two, and pending before."""
    report = hostile_report()

    def alert(name: str, severity: str, summary: str, *runs: tuple[int, int, str], labels: str = "") -> FiredAlert:
        return FiredAlert(
            name=name,
            severity=severity,
            labels=labels,
            summary=summary,
            runbook_url="",
            runbook="",
            runs=[(start * 1000, end * 1000, state) for start, end, state in runs],
        )

    broken = ((1000, 1030, "pending"), (1030, 1060, "firing"))
    report.alerts = [
        alert("Fires", "critical", "It is broken.", *broken, labels="application=shop"),
        alert("Over", "critical", "It was broken.", (1015, 1030, "firing")),
        alert("Soon", "warning", "It may break.", (1045, 1060, "pending")),
        alert("Long", "critical", "It may break.", (1000, 1060, "pending")),
        alert("Passed", "warning", "It may break.", (1000, 1015, "pending")),
    ]
    return report
