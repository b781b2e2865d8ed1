"""The lint over Fluent Bit's configuration finds what --dry-run lets pass, and ours has none of it."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
import yaml
from ray._private import node, ray_constants
from ray.serve.schema import LoggingConfig

from scripts.check_fluentbit import complaints
from tests.support.log_cases import CONFIG

ENVIRONMENTS = [{"RAY_LOGS_TO": output} for output in ("loki", "otlp", "stdout")]


NO_STORAGE = "storage.type filesystem needs storage.path in the service section"


@pytest.mark.parametrize("entry", ["fluent-bit.yaml", "haproxy.yaml"])
def test_our_configuration_has_no_hole(entry):
    assert complaints(CONFIG / entry, ENVIRONMENTS) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("inputs.yaml", "parser: ray_json", "parser: nope", "filter parser: undefined parser nope"),
        ("inputs.yaml", "parser: ray_print", "parser: nope", "input ray_worker: undefined multiline parser nope"),
        ("output-loki.yaml", "match: loki.*", "match: lok.*", "filter ray_loki: no tag matches lok.*"),
        ("fluent-bit.yaml", "flush: 1", "flsh: 1", "service: unknown key flsh"),
        ("fluent-bit.yaml", "storage.path:", "log_file:", f"input ray_serve: {NO_STORAGE}"),
        ("output-otlp.yaml", "script: ray.lua", "script: rai.lua", "filter ray_otlp: script not found: rai.lua"),
        ("output-loki.yaml", "pipeline:", "pipelines:", "unknown section pipelines"),
        ("metrics.yaml", "tag: metrics", "tag: elsewhere", "tag elsewhere: no output matches it"),
    ],
)  # fmt: skip
def test_every_hole_is_found(file, old, new, complaint, tmp_path):
    broken = tmp_path / "fluentbit"
    shutil.copytree(CONFIG, broken)
    text = (broken / file).read_text()
    assert old in text
    (broken / file).write_text(text.replace(old, new, 1))
    assert complaint in complaints(broken / "fluent-bit.yaml", ENVIRONMENTS)


def test_a_key_of_the_service_section_is_known_by_its_whole_name(tmp_path):
    config = tmp_path / "service.yaml"
    config.write_text(yaml.safe_dump({"service": {"windows.maxstdio": 512, "w": 1}}))
    assert complaints(config, ENVIRONMENTS) == ["service: unknown key w"]


def test_every_input_keeps_its_place_and_its_records_on_disk():
    inputs = yaml.safe_load((CONFIG / "inputs.yaml").read_text())["pipeline"]["inputs"]
    assert [item["alias"] for item in inputs] == ["ray_serve", "ray_core", "ray_worker", "ray_events"]
    for item in inputs:
        assert item["storage.type"] == "filesystem"
        assert item["truncate_long_lines"] is True
        assert item["refresh_interval"] == 5
        # a rotated name (x.log.1) would be read a second time
        assert all(Path(pattern).suffix in (".log", ".out", ".err") for pattern in item["path"].split(","))
    assert len({item["db"] for item in inputs}) == len(inputs)


def test_rays_settings_of_its_logs_are_called_as_the_page_calls_them():
    """docs/logs.md says what each does to the agents; Ray must still read it."""
    page = (CONFIG.parent / "docs/logs.md").read_text()
    assert "`logging_config.logs_dir`" in page
    assert LoggingConfig(logs_dir="/elsewhere").logs_dir == "/elsewhere"
    assert "`RAY_LOG_TO_STDERR=1`" in page
    assert ray_constants.LOGGING_REDIRECT_STDERR_ENVIRONMENT_VARIABLE == "RAY_LOG_TO_STDERR"
    reads = inspect.getsource(node.Node)
    for name in ("RAY_ROTATION_MAX_BYTES", "RAY_ROTATION_BACKUP_COUNT"):
        assert f"`{name}`" in page
        assert f'"{name}"' in reads
