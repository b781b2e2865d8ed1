"""The command line as a user meets it: files written whole, failures in one line with a non-zero exit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servescope.files import write_all


def servescope(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servescope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_dashboards_with_another_cluster_label(tmp_path):
    (tmp_path / "s.yml").write_text("cluster_label: my_cluster\n")
    result = servescope("dashboards", "--settings", tmp_path / "s.yml", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "out/servescope-overview.json").read_text()
    assert 'my_cluster=~\\"$cluster\\"' in text
    assert "ray_io_cluster" not in text
    recorded = json.loads((tmp_path / "out/recorded/servescope-overview.json").read_text())
    assert recorded["uid"] == "servescope-overview"


def test_rules_follow_the_settings(tmp_path):
    (tmp_path / "s.yml").write_text("scrape_interval_s: 30\n")
    result = servescope("rules", "--settings", tmp_path / "s.yml", "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "servescope-recording.yml").read_text()
    assert "record: serve_route:requests:rate2m" in text
    assert "[2m]" in text
    assert "[1m]" not in text


def test_rules_with_objectives(tmp_path):
    (tmp_path / "slo.yaml").write_text("slos: [{name: x, application: shop, availability: 0.99}]")
    result = servescope("rules", "--slo", tmp_path / "slo.yaml", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert 'application="shop"' in (tmp_path / "out/servescope-slo.yml").read_text()


def test_an_objective_that_no_rule_could_watch_ends_in_one_line_and_writes_nothing(tmp_path):
    (tmp_path / "slo.yaml").write_text(
        "slos: [{name: x, application: shop, latency: {objective: 0.99, threshold_ms: 700}}]"
    )
    result = servescope("rules", "--slo", tmp_path / "slo.yaml", "-o", tmp_path / "out")
    assert result.returncode == 1
    assert "700 ms is not a bucket bound" in result.stderr
    assert "the nearest are 500 or 1000" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [("cluster_label: a-b", "is not a Prometheus label name"), ("nonsense: 1", "unknown setting 'nonsense'")],
)
def test_bad_settings_end_in_one_line_and_write_nothing(tmp_path, settings, message):
    (tmp_path / "s.yml").write_text(settings)
    result = servescope("dashboards", "--settings", tmp_path / "s.yml", "-o", tmp_path / "out")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = servescope("rules", "-o", tmp_path / "file" / "below")
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert result.stderr.count("\n") == 1


def test_files_are_replaced_together_or_not_at_all(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(Exception, match="cannot write"):
        write_all({tmp_path / "a": "new", tmp_path / "blocked" / "b": "new"})
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "blocked"]


def test_only_what_changed_is_written(tmp_path):
    assert write_all({tmp_path / "a": "1", tmp_path / "b": "2"}) == [tmp_path / "a", tmp_path / "b"]
    assert write_all({tmp_path / "a": "1", tmp_path / "b": "3"}) == [tmp_path / "b"]
