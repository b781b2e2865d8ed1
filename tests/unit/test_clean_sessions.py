"""The clean-up of Ray's old sessions: what is old goes, what lives stays, whatever its age."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.log_cases import CONFIG

SCRIPT = CONFIG / "clean-sessions.sh"


def session(tmp: Path, number: int, age_hours: float) -> Path:
    directory = tmp / f"session_2026-01-0{number}_00-00-00_000000_{number}"
    log = directory / "logs/serve/proxy.log"
    log.parent.mkdir(parents=True)
    log.write_text("x")
    age(directory, age_hours)
    return directory


def age(directory: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (then, then))


def run(tmp: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "RAY_TMP": str(tmp), "KEEP_HOURS": "24", **env}
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_old_sessions_go_and_live_ones_stay(tmp_path):
    tmp = tmp_path / "ray"
    old, recent, latest = session(tmp, 1, 30), session(tmp, 2, 1), session(tmp, 3, 100)
    (tmp / "session_latest").symlink_to(latest)
    half = session(tmp, 4, 30)  # old but for one line
    (half / "logs/serve/proxy.log").write_text("y")
    (tmp / "prom_metrics_service_discovery.json").write_text("[]")
    planned = run(tmp, "--dry-run")
    assert planned.returncode == 0
    assert re.fullmatch(rf"clean-sessions: would delete {re.escape(str(old))} \(\d+ KiB\)\n", planned.stdout)
    assert old.exists()
    done = run(tmp)
    assert done.returncode == 0
    assert re.fullmatch(rf"clean-sessions: deleted {re.escape(str(old))} \(\d+ KiB\)\n", done.stdout)
    assert [path.exists() for path in (old, recent, latest, half)] == [False, True, True, True]
    assert (tmp / "prom_metrics_service_discovery.json").exists()


def test_a_session_that_a_process_uses_stays_however_old_it_is(tmp_path):
    tmp = tmp_path / "ray"
    opened, named = session(tmp, 1, 100), session(tmp, 2, 100)
    with (opened / "logs/serve/proxy.log").open():
        age(opened, 100)
        wait = "import sys; sys.stdin.read()"
        command = [sys.executable, "-c", wait, f"--session-dir={named}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
            assert (run(tmp).returncode, opened.exists(), named.exists()) == (0, True, True)
            other.communicate()
    run(tmp)
    assert (opened.exists(), named.exists()) == (False, False)


def test_a_link_is_never_followed(tmp_path):
    tmp = tmp_path / "ray"
    elsewhere = session(tmp_path / "other", 1, 100)
    tmp.mkdir()
    (tmp / "session_2026-01-01_link").symlink_to(elsewhere)
    assert run(tmp).returncode == 0
    assert (elsewhere / "logs/serve/proxy.log").exists()


@pytest.mark.parametrize(
    ("arguments", "env", "complaint"),
    [
        (["--force"], {}, "clean-sessions: unknown argument --force; the only one is --dry-run\n"),
        (
            [],
            {"KEEP_HOURS": "a day"},
            "clean-sessions: KEEP_HOURS: expected a number of hours, at least 1, got 'a day'\n",
        ),
        ([], {"KEEP_HOURS": "0"}, "clean-sessions: KEEP_HOURS: expected a number of hours, at least 1, got '0'\n"),
        ([], {"RAY_TMP": "/nowhere"}, "clean-sessions: RAY_TMP: /nowhere is not a directory\n"),
    ],
)
def test_a_wrong_setting_deletes_nothing_and_says_why(tmp_path, arguments, env, complaint):
    old = session(tmp_path, 1, 100)
    done = run(tmp_path, *arguments, **env)
    assert done.returncode != 0
    assert done.stderr == complaint
    assert old.exists()
