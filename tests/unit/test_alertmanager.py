"""Alertmanager's configuration: amtool accepts it and routes as meant, and a real Alertmanager inhibits as meant."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest

from demo import ROOT
from servescope.rules import alerts
from servescope.rules.alertmanager import INHIBITIONS
from servescope.settings import Settings

ALERTS = {alert.name: alert for alert in alerts.all_alerts(Settings())}
DEFAULT, EXAMPLE = ROOT / "alertmanager/alertmanager.yml", ROOT / "alertmanager/example.yml"

requires_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None or shutil.which("prometheus-alertmanager") is None,
    reason="amtool or prometheus-alertmanager is not on the PATH: make tools installs them",
)


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["amtool", *map(str, arguments)], capture_output=True, text=True, check=False)


@requires_amtool
@pytest.mark.parametrize("path", [DEFAULT, EXAMPLE], ids=["default", "example"])
def test_amtool_accepts_it(path, tmp_path):
    result = amtool("check-config", path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(INHIBITIONS) + 1} inhibit rules" in result.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(path.read_text().replace("receiver: page\n", "receiver: nobody\n"))
    assert amtool("check-config", broken).returncode != 0


ROUTES = [
    (("alertname=ServescopeWatchdog", "severity=info"), "watchdog", "watchdog"),
    (("alertname=X", "severity=critical"), "page", "page"),
    (("alertname=X", "severity=critical", "application=ocr"), "page", "page-ocr"),
    (("alertname=X", "severity=critical", "application=echo"), "page", "page"),
    (("alertname=X", "severity=warning", "application=ocr"), "ticket", "ticket"),
    (("alertname=X", "severity=info"), "note", "note"),
    (("alertname=X",), "ticket", "ticket"),
]


@requires_amtool
@pytest.mark.parametrize(("labels", "default", "example"), ROUTES)
def test_routes(labels, default, example):
    for path, receiver in ((DEFAULT, default), (EXAMPLE, example)):
        result = amtool("config", "routes", "test", f"--config.file={path}", *labels)
        assert result.stdout.strip() == receiver, result.stderr


def test_the_example_holds_no_secret():
    text = EXAMPLE.read_text()
    assert not re.search(r"(routing_key|service_key|api_url|credentials|password|bearer_token):", text)
    assert text.count("_file: /etc/alertmanager/secrets/") == 5


def test_inhibitions_name_alerts_that_exist_and_labels_that_both_carry():
    for inhibition in INHIBITIONS:
        source = ALERTS[inhibition.source]
        found = [a for a in ALERTS.values() for pattern in inhibition.targets if re.fullmatch(pattern, a.name)]
        assert len(found) >= len(inhibition.targets)
        assert source not in found, "an alert must not silence itself"
        for label in inhibition.labels:
            assert label in source.labels
            assert [alert.name for alert in found if label not in alert.labels] == []


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "prometheus-alertmanager",
        f"--config.file={DEFAULT}",
        f"--storage.path={tmp_path_factory.mktemp('alertmanager')}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{url}/-/ready", timeout=2).is_success:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def suppressed(url: str, fired: list[dict[str, str]]) -> set[str]:
    """Which of these alerts a real Alertmanager would not send; the test ends each by letting it run out."""
    end = (datetime.now(timezone.utc) + timedelta(seconds=2)).isoformat()
    body = [{"labels": labels, "endsAt": end} for labels in fired]
    httpx.post(f"{url}/api/v2/alerts", json=body).raise_for_status()
    deadline = time.monotonic() + 10
    while True:
        known = httpx.get(f"{url}/api/v2/alerts").json()
        if len(known) >= len(fired) and all(alert["status"]["state"] != "unprocessed" for alert in known):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    result = {a["labels"]["alertname"] + a["labels"].get("n", "") for a in known if a["status"]["inhibitedBy"]}
    while httpx.get(f"{url}/api/v2/alerts").json():
        assert time.monotonic() < deadline + 10
        time.sleep(0.2)
    return result


def fired(name: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "ray_io_cluster": "a", **labels}


@requires_amtool
def test_a_head_that_is_down_silences_its_consequences_and_not_those_of_another_cluster(alertmanager):
    alerts_ = [
        fired("RayClusterHeadGone", "critical"),
        fired("RayServeControllerStalled", "critical"),
        fired("RayServeErrorRatioHigh", "critical", application="main"),
        {**fired("RayClusterGcsGone", "critical", n="2"), "ray_io_cluster": "b"},
    ]
    assert suppressed(alertmanager, alerts_) == {"RayServeControllerStalled"}


@requires_amtool
def test_a_critical_burn_silences_its_warning_and_no_other(alertmanager):
    alerts_ = [
        fired("RayServeErrorBudgetBurn", "critical", slo="x", sli="availability", n="1"),
        fired("RayServeErrorBudgetBurn", "warning", slo="x", sli="availability", n="2"),
        fired("RayServeErrorBudgetBurn", "warning", slo="y", sli="availability", n="3"),
    ]
    assert suppressed(alertmanager, alerts_) == {"RayServeErrorBudgetBurn2"}


@requires_amtool
def test_a_silent_cluster_silences_everything_of_its_own(alertmanager):
    alerts_ = [
        fired("RayClusterMetricsGone", "critical"),
        fired("RayServeUnavailable", "critical", application="main"),
        fired("RayGpuHot", "warning"),
        fired("RayClusterNodeLost", "warning"),
        fired("ServescopeTargetDown", "warning"),
        fired("ServescopeWatchdog", "info"),
    ]
    assert suppressed(alertmanager, alerts_) == {
        "RayServeUnavailable",
        "RayGpuHot",
        "RayClusterNodeLost",
        "ServescopeTargetDown",
    }
