"""What no line may do to fluentbit/ray.lua: raise, lose a record, or let a planted secret through."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.log_cases import fixture_files, planted_secrets
from tests.support.lua_filter import FILE, LINE, Lua, parsed, tag_of

FILES = (
    "serve/replica_main_Gateway_3fissrv7.log",
    "serve/proxy_192.0.2.2.log",
    "serve/controller_18370.log",
    "worker-0d3a-01000000-18790.err",
    "worker-0d3a-01000000-18790.out",
    "job-driver-raysubmit_abc123.log",
    "raylet.out",
    "events/event_GCS.log",
)
SECRET = "planted-S3cr3t"
# Keys that the readers take for something; any of them may hold any type.
KEYS = (
    *("message", "msg", "event", "text", "level", "levelname", "severity", "time", "timestamp", "ts", "asctime"),
    *("timestamp_ns", "filename", "lineno", "process", "actor_name", "deployment", "application", "replica"),
    *("request_id", "route", "exc_text", "trace_id", "span_id", "custom_fields", "source_pid", "source_type"),
    *("record", "exception", "log", "file", "job_id", "err", "component", "node", "session", "status", "client"),
    *("meta", "name", "key", "value", "0", "1", "a.b"),
)  # fmt: skip
dates = ("2026-11-23 14:36:02,385", "9999-99-99 99:99:99,999", "0000-00-00 00:00:00,000")
texts = st.one_of(st.text(max_size=40), st.sampled_from((*dates, "INFO", "Level 25", "SERVE_REPLICA::a#b#c")))
names = st.one_of(texts, st.sampled_from(KEYS))
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from((1e308, 1795965408, 1795965408244, -1, 0)))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
objects = st.dictionaries(st.one_of(st.sampled_from(KEYS), texts), values, max_size=8)
heads = st.sampled_from(
    (
        "",
        "INFO 2026-11-23 14:36:02,385 ",
        "INFO 2026-11-23 14:36:02,385 main_Gateway 3fissrv7 ",
        "[2026-11-23 14:35:09,622 W 1 2] ",
    )
)
lines = st.one_of(
    objects.map(functools.partial(json.dumps, ensure_ascii=False)),
    st.builds(str.__add__, heads, st.text(max_size=80)),
)


@pytest.fixture(scope="module")
def lua() -> Lua:
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "RAY_TMP",
            "RAY_LOGS_TO",
            "RAY_LOGS_REDACT",
            "RAY_KEEP_STDERR_COPY",
            "RAY_SERVE_APPS",
            "NODE_NAME",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("TZ", "UTC")
        time.tzset()
        return Lua()


def call(lua: Lua, function: str, file: str, line: str) -> tuple[int, dict[str, Any]]:
    kind, _ = tag_of(file)
    fields = parsed(line) | {LINE: line, FILE: f"/tmp/ray/session_2026-01-01_00-00-00_000000_1/logs/{file}"}
    code, _, record = lua.call(function, f"stdout.{kind}", fields)
    return code, record


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(line=lines, file=st.sampled_from(FILES), function=st.sampled_from(("ray", "loki")))
def test_every_line_becomes_one_record(lua, line, file, function):
    code, record = call(lua, function, file, line)
    dropped = line.startswith((":actor_name:", ":job_id:", ":task_name:")) or " 3fissrv7 " in line
    assert code == 1 or dropped
    if code == 1:
        assert isinstance(record["message"], str)
        assert record["message"].strip() or not line.strip() or not line.isprintable()
        assert record["level"] in {"TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL", "UNKNOWN"}
        assert "unread" not in record
        assert len(record) + len(record.get("meta", {})) < 128


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(shape=objects, file=st.sampled_from(FILES), function=st.sampled_from(("ray", "loki")), data=st.data())
def test_no_planted_secret_leaves_it(lua, shape, file, function, data):
    secret = data.draw(st.sampled_from(({"password": SECRET}, {"x": f"token={SECRET}"}, [["api_key", SECRET]])))
    depth = data.draw(st.integers(0, 12))
    for key in data.draw(st.lists(st.sampled_from(KEYS), min_size=depth, max_size=depth)):
        secret = {key: secret}
    line = json.dumps(shape | {data.draw(st.sampled_from(KEYS)): secret})
    _, record = call(lua, function, file, line)
    assert SECRET not in json.dumps(record)


@pytest.mark.parametrize("function", ["ray", "loki"])
@pytest.mark.parametrize("file", FILES)
def test_none_of_the_planted_secrets_leaves_it(lua, file, function):
    for line, secret in planted_secrets():
        for text in (
            line,
            f"INFO 2026-11-23 14:36:02,385 main_Gateway 3fissrv7 -- {line}",
            json.dumps({"levelname": "INFO", "message": line}),
        ):
            code, record = call(lua, function, file, text)
            assert code == -1 or secret not in json.dumps(record), text
            assert "unread" not in record


def test_a_line_with_a_secret_that_only_its_name_shows_is_not_sent_as_it_is(lua):
    line = json.dumps({"env": [{"value": SECRET, "from": "vault", "name": "DB_PASSWORD"}]})
    _, record = call(lua, "ray", FILES[3], line)
    assert record["message"] == '{"env.0.from":"vault","env.0.name":"DB_PASSWORD"}'
    assert SECRET not in json.dumps(record)


def test_a_record_that_cannot_be_read_is_marked_redacted_and_alone(monkeypatch):
    lua = Lua()
    lua._runtime.execute("math.floor = function() error('broken') end")
    path = "/tmp/ray/session_2026-01-01_00-00-00_000000_1/logs/serve/proxy_192.0.2.2.log"
    line = '{"levelname": "INFO", "message": "m", "timestamp_ns": 1795445394342198203, "password": "x"}'
    code, _, record = lua.call("ray", "stdout.serve", parsed(line) | {LINE: line, FILE: path})
    assert code == 1
    assert (record["level"], record["unread"], record["component"]) == ("UNKNOWN", True, "serve_proxy")
    assert record["message"] == line.replace('"x"', '"[redacted]"')
    after = "INFO 2026-11-23 14:36:02,385 proxy 192.0.2.2 -- next"
    assert lua.call("ray", "stdout.serve", {LINE: after, FILE: path})[2]["message"] == "next"


def test_no_record_of_the_real_logs_takes_the_fallback(lua):
    total = 0
    for encoding in ("text", "json"):
        for path in fixture_files(encoding):
            file = "/".join(path.parts[path.parts.index(encoding) + 1 :])
            for record in lua.read(path.read_text(), file):
                assert "unread" not in record
                total += 1
    assert total > 3000


def test_labels_are_bounded_whatever_an_application_logs(lua):
    """A thousand distinct values of every key that is a label: they come under other names."""
    labels: dict[str, set[str]] = {
        name: set() for name in ("level", "component", "application", "deployment", "node", "event")
    }
    for number in range(1000):
        for file in (FILES[0], FILES[3]):
            own = {name: f"{name}{number}" for name in labels}
            line = json.dumps({"levelname": f"L{number}", "message": f"user {number}", **own})
            _, record = call(lua, "loki", file, line)
            for name in labels:
                labels[name].add(str(record.get(name)))
            assert record["meta"]["app_component"] == f"component{number}"
            if file == FILES[0]:
                assert record["meta"]["app_event"] == f"event{number}"
    assert {name: len(found) for name, found in labels.items()} == {
        **{"level": 1, "component": 2, "application": 2, "deployment": 2, "node": 1, "event": 1}
    }
