"""The alerts and the drill name each other, and nothing is judged by chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from servescope.errors import ServescopeError
from servescope.rules.alerts import all_alerts
from servescope.settings import Settings
from tests.drill.__main__ import chosen, number_of
from tests.drill.design import App
from tests.drill.faults import DESIGNS, FAULTS, Expect, Fault
from tests.drill.judge import Trial, false_alarms, median_detection_s
from tests.drill.report import Result, page
from tests.drill.watch import Seen

ALERTS = {alert.name: alert for alert in all_alerts(Settings())}
BY_NAME = {fault.name: fault for fault in FAULTS}


def test_every_alert_has_a_drill_that_expects_it_or_a_reason() -> None:
    for alert in ALERTS.values():
        if alert.no_drill:
            continue
        assert alert.drill in BY_NAME, f"{alert.name}: no fault {alert.drill}"
        expected = {expect.alert for expect in BY_NAME[alert.drill].must}
        assert alert.name in expected, f"{alert.drill} does not expect {alert.name}"


def test_every_alert_that_a_fault_names_exists() -> None:
    for fault in FAULTS:
        named = {*fault.may, *(expect.alert for expect in fault.must)}
        assert named <= set(ALERTS), fault.name
        assert fault.world in DESIGNS


def test_names_of_faults_and_applications_are_their_own() -> None:
    assert len(BY_NAME) == len(FAULTS)
    names = [app.name for fault in FAULTS for app in fault.apps]
    assert len(set(names)) == len(names)


def test_what_an_alert_without_drill_would_prove_is_not_claimed() -> None:
    for fault in FAULTS:
        for expect in fault.must:
            assert not ALERTS[expect.alert].no_drill, f"{fault.name} proves {expect.alert}"


FAULT = Fault(
    name="f",
    how="breaks",
    breaks=lambda world: lambda: None,
    must=(Expect("RayServeNoReplicas", 30), Expect("RayServeRouteFailing", 30, {"route": "/f"})),
    may=("RayServeUnavailable", "RayClusterNodeLost"),
    apps=(App(name="f"),),
)


def seen(alert: str, at: float, **labels: str) -> Seen:
    return Seen(alert=alert, labels={"alertname": alert, **labels}, first=at, last=at, begun=[at])


def test_an_alert_counts_for_its_own_application_in_its_time() -> None:
    trial = Trial(fault=FAULT, broke=100)
    trial.look(
        [
            seen("RayServeNoReplicas", 120, application="other"),
            seen("RayServeNoReplicas", 99, application="f"),
            seen("RayServeRouteFailing", 110, application="f", route="/g"),
            seen("RayServeRouteFailing", 131, application="f", route="/f"),
        ]
    )
    assert trial.missed == ["RayServeNoReplicas", "RayServeRouteFailing"]
    trial.look([seen("RayServeNoReplicas", 125, application="f")])
    assert trial.missed == ["RayServeRouteFailing"]
    assert trial.detected == {"RayServeNoReplicas": 25}
    assert median_detection_s([trial]) == 25


def test_an_alert_that_nothing_explains_is_a_false_alarm() -> None:
    trial = Trial(fault=FAULT, broke=100)
    explained = [
        seen("RayServeNoReplicas", 400, application="f"),
        seen("RayServeUnavailable", 101, application="f"),
        seen("RayClusterNodeLost", 101),
        seen("ServescopeWatchdog", 1),
    ]
    assert false_alarms([trial], explained) == []
    wrong = [
        seen("RayServeNoReplicas", 90, application="f"),  # before it broke
        seen("RayServeUnavailable", 101, application="g"),  # of another application
        seen("RayClusterOomKills", 101),  # of nothing that broke
    ]
    assert [line.split("{")[0] for line in false_alarms([trial], wrong)] == [
        "RayServeNoReplicas",
        "RayServeUnavailable",
        "RayClusterOomKills",
    ]


def test_the_page_lists_what_was_missed() -> None:
    trial = Trial(fault=FAULT, broke=0, detected={"RayServeNoReplicas": 12.4})
    result = Result(trials=[trial], false_alarms=["RayClusterOomKills{} after 3 s"], machine="2 cores")
    text = page([result], "make drill", whole=False)
    assert not result.good
    assert "| `f` | breaks | RayServeNoReplicas (within 30) | 12 | yes |" in text
    assert "RayServeRouteFailing (within 30) | missed | **no** |" in text
    assert "Expected alerts fired: 1 of 2. False positives: 1. Median time to detect: 12 s." in text
    assert "- run 1: RayClusterOomKills{} after 3 s" in text
    assert "- run 1: 2 cores" in text


def test_a_part_is_chosen_by_name() -> None:
    assert [fault.name for fault in chosen("kill-node, burst")] == ["burst", "kill-node"]
    assert chosen("") == list(FAULTS)
    with pytest.raises(ServescopeError, match="no fault burts; there are nothing, "):
        chosen("burts")


def test_an_invalid_number_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert number_of("RUNS", 1, least=1, most=100) == 1
    monkeypatch.setenv("RUNS", "3")
    assert number_of("RUNS", 1, least=1, most=100) == 3
    for text in ("0", "many", "-1"):
        monkeypatch.setenv("RUNS", text)
        with pytest.raises(ServescopeError, match=f"RUNS: '{text}' is no number between 1 and 100"):
            number_of("RUNS", 1, least=1, most=100)


def test_what_holds_for_a_whole_world_may_name_any_application() -> None:
    of_all = Trial(fault=replace(FAULT, anywhere=("RayServeNoReplicas",)), broke=100)
    others = [seen("RayServeNoReplicas", 120, application="g"), seen("RayServeUnavailable", 120, application="g")]
    assert [line.split("{")[0] for line in false_alarms([of_all], others)] == ["RayServeUnavailable"]
    assert len(false_alarms([Trial(fault=FAULT, broke=100)], others)) == 2
