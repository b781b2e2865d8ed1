"""fluentbit/ray.lua under a real LuaJIT: the table of cases, redaction, and the real logs of two live Serves."""

from __future__ import annotations

import json
import re
import time
from collections import Counter

import pytest
import yaml
from lupa.luajit21 import LuaError

from tests.support import log_cases
from tests.support.log_cases import (
    CONFIG,
    FIXTURES,
    HAPROXY_LINE,
    cases,
    comparable,
    different,
    fixture_files,
    loggers,
    serve_starts,
)
from tests.support.lua_filter import FILE, LINE, Lua


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("RAY_TMP", "RAY_LOGS_TO", "RAY_LOGS_REDACT", "RAY_KEEP_STDERR_COPY", "RAY_SERVE_APPS", "NODE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_fields_are_those_of_the_table(case, monkeypatch):
    monkeypatch.setenv("RAY_SERVE_APPS", "my_app")
    assert [comparable(record) for record in Lua().read(case.text, case.file)] == case.records


@pytest.mark.parametrize("case", [*cases("applications.yaml"), *loggers()], ids=lambda case: case.name)
def test_what_applications_print_is_read(case, monkeypatch):
    monkeypatch.setenv("RAY_SERVE_APPS", "my_app")
    records = Lua().read(case.text, case.file)
    assert [different(record, wanted) for record, wanted in zip(records, case.records, strict=False)] == [{}] * len(
        case.records
    )
    assert len(records) == len(case.records)
    assert not any("unread" in record for record in records)


@pytest.mark.parametrize(("before", "after"), yaml.safe_load((FIXTURES / "redaction.yaml").read_text()))
def test_secrets_are_taken_out(before, after):
    text = f"INFO 2026-11-23 14:36:02,175 main_Gateway 3fissrv7 -- {before}\n"
    (record,) = Lua().read(text, "serve/replica_main_Gateway_3fissrv7.log")
    assert record["message"] == after
    as_field = json.dumps({"levelname": "INFO", "message": "m", "note": before}) + "\n"
    (record,) = Lua().read(as_field, "serve/replica_main_Gateway_3fissrv7.log")
    assert record["note"] == after


@pytest.mark.parametrize("function", ["ray", "loki"])
def test_secrets_in_an_applications_own_fields_are_taken_out(function):
    text = '{"levelname": "INFO", "message": "m", "db_password": "x", "headers": "Authorization: Bearer abc", "n": 1}\n'
    (record,) = Lua().read(text, "serve/replica_main_Gateway_3fissrv7.log", function=function)
    record = {**record, **record.get("meta", {})}
    assert "db_password" not in record
    assert (record["headers"], float(record["n"])) == ("Authorization: Bearer [redacted]", 1)


def test_redaction_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("RAY_LOGS_REDACT", "off")
    text = '{"levelname": "INFO", "message": "password=x", "db_password": "x"}\n'
    (record,) = Lua().read(text, "serve/replica_main_Gateway_3fissrv7.log")
    assert (record["message"], record["db_password"]) == ("password=x", "x")


@pytest.mark.parametrize("encoding", ["text", "json"])
def test_every_record_start_of_the_real_logs_becomes_one_record(encoding):
    lua, total = Lua(), 0
    for path in fixture_files(encoding):
        file = str(path.relative_to(FIXTURES / encoding))
        text = path.read_text()
        records = lua.read(text, file)
        if file.startswith("serve/"):
            assert len(records) == serve_starts(text), file
            assert all("time" in record and record["level"] != "UNKNOWN" for record in records), file
            total += len(records)
    assert total == {"text": 2954, "json": 119}[encoding]


@pytest.mark.parametrize("encoding", ["text", "json"])
def test_no_line_of_serve_comes_twice(encoding, monkeypatch):
    """Every Serve line in worker-*.err is a copy of one in serve/, and none of them is kept."""
    lua, copies = Lua(), 0
    for path in fixture_files(encoding):
        if path.name.startswith("worker-"):
            kept = lua.read(path.read_text(), path.name)
            assert [r for r in kept if r["component"].startswith("serve")] == [], path.name
            copies += serve_starts(path.read_text())
    assert copies > {"text": 100, "json": 30}[encoding]


def test_copies_can_be_kept(monkeypatch):
    monkeypatch.setenv("RAY_KEEP_STDERR_COPY", "1")
    text = "INFO 2026-11-23 14:36:02,175 main_Gateway 3fissrv7 fe947340 -- GET / 404 15.2ms\n"
    (record,) = Lua().read(text, "worker-0d3a-01000000-18790.err")
    assert (record["component"], record["application"], record["deployment"], record["replica"], record["status"]) == (
        "serve_replica",
        "main",
        "Gateway",
        "3fissrv7",
        "404",
    )


def test_every_access_line_of_the_real_logs_is_understood():
    lua = Lua()
    found = Counter()
    for path in fixture_files("text"):
        if path.parent.name == "serve":
            for record in lua.read(path.read_text(), f"serve/{path.name}"):
                if record["message"].endswith("ms") and "\n" not in record["message"]:
                    found[record["component"], record.get("log_type")] += 1
    assert found == {("serve_proxy", "access"): 125, ("serve_replica", "access"): 2361}


@pytest.mark.parametrize(
    ("teacher", "file"),
    [
        (
            "INFO 2026-11-23 14:35:09,830 controller 1 -- Adding 1 to Deployment(name='My_Model', app='my_app').",
            "serve/controller_1.log",
        ),
        (":actor_name:ServeReplica:my_app:My_Model", "worker-0d3a-01000000-1.out"),
        (
            '{"levelname": "INFO", "message": "m", "actor_name": "SERVE_REPLICA::my_app#My_Model#a1"}',
            "serve/replica_my_app_My_Model_a1.log",
        ),
    ],
    ids=["controller", "header", "json"],
)
def test_names_with_underscores_are_learnt(teacher, file):
    line = "INFO 2026-11-23 14:46:52,553 my_app_My_Model 28xnycjf -- scoring\n"
    target = "serve/replica_my_app_My_Model_28xnycjf.log"
    lua = Lua()
    (before,) = lua.read(line, target)
    assert (before["application"], before["deployment"]) == ("my_app_My", "Model")  # the last "_" is the best guess
    lua.read(teacher + "\n", file)
    (after,) = lua.read(line, target)
    assert (after["application"], after["deployment"]) == ("my_app", "My_Model")


@pytest.mark.parametrize(
    ("line", "utc"),
    [
        ("INFO 2026-11-23 14:36:02,175 proxy 192.0.2.2 -- winter", "2026-11-23T19:36:02.175000Z"),
        ("INFO 2026-07-23 14:36:02,175 proxy 192.0.2.2 -- summer", "2026-07-23T18:36:02.175000Z"),
    ],
)
def test_text_is_in_the_local_time_of_the_zone(line, utc, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    (record,) = Lua().read(line + "\n", "serve/proxy_192.0.2.2.log")
    assert record["time"] == utc


def test_a_message_that_is_too_long_is_cut_and_marked():
    start = '{"asctime": "2026-11-23 14:49:54,505", "levelname": "ERROR", "message": "'
    whole = Lua().read(start + "x" * 300_000 + '", "request_id": "r1"}\n', "serve/proxy_192.0.2.2.log")
    cut = Lua().read(start + "x" * 1_000_000 + "\n", "serve/proxy_192.0.2.2.log")  # as tail cuts a line over 1 MB
    for (record,) in (whole, cut):
        assert record["truncated"] is True
        assert record["level"] == "ERROR"
        assert record["time"] == "2026-11-23T14:49:54.505000Z"
        assert record["message"] == "x" * 204_800
    assert whole[0]["request_id"] == "r1"


def test_a_cut_is_between_two_characters():
    text = f"INFO 2026-11-23 14:36:02,175 proxy 192.0.2.2 -- x{'é' * 150_000}\n"
    (record,) = Lua().read(text, "serve/proxy_192.0.2.2.log")
    assert record["message"] == "x" + "é" * 102_399
    assert record["truncated"] is True


def test_bytes_that_are_no_utf8_are_replaced_and_their_neighbours_are_not():
    lua = Lua()
    line = b"INFO 2026-11-23 14:36:02,175 proxy 192.0.2.2 -- Estagi\xe1rio \xc3\xa9 \xf0\x9f\x9a\x80 \xed\xa0\x80"
    fields = {LINE: line, FILE: "/tmp/ray/session_2026-01-01_00-00-00_000000_1/logs/serve/proxy_192.0.2.2.log"}
    assert lua.call("ray", "stdout.serve", fields)[2]["message"] == "Estagi\ufffdrio é 🚀 \ufffd\ufffd\ufffd"


def test_the_node_is_the_host_or_what_the_path_names(monkeypatch):
    line = "INFO 2026-11-23 14:36:02,175 proxy 192.0.2.2 -- m"
    fields = {LINE: line, FILE: "/ray/worker-1/session_2026-01-01_00-00-00_000000_1/logs/serve/proxy_192.0.2.2.log"}
    monkeypatch.setenv("NODE_NAME", "n1")
    assert Lua().call("ray", "loki.serve", fields)[2]["node"] == "n1"
    monkeypatch.setenv("RAY_TMP", "/ray/*")
    assert Lua().call("ray", "loki.serve", fields)[2]["node"] == "worker-1"


def test_loki_gets_few_labels_and_the_rest_as_text():
    text = (
        '{"levelname": "INFO", "message": "GET / 200 1.5ms", "actor_name": "SERVE_REPLICA::main#Gateway#a1",'
        ' "request_id": "r1", "n": 3, "x": 0.25, "ok": true, "map": {"a": {"b": 1}}}\n'
    )
    (record,) = Lua().read(text, "serve/replica_main_Gateway_a1.log", function="loki")
    meta = record.pop("meta")
    record.pop("node")
    assert record == {
        **{"message": "GET / 200 1.5ms", "level": "INFO", "component": "serve_replica"},
        **{"application": "main", "deployment": "Gateway"},
    }
    assert meta == {
        **{"session": log_cases.session_of(0), "request_id": "r1", "replica": "a1", "log_type": "access"},
        **{"method": "GET", "route": "/", "status": "200", "latency_ms": "1.5"},
        **{"n": "3", "x": "0.25", "ok": "true", "map_a_b": "1"},
    }


def test_an_output_that_is_not_there_stops_it(monkeypatch):
    monkeypatch.setenv("RAY_LOGS_TO", "lokki")
    with pytest.raises(LuaError, match="RAY_LOGS_TO=lokki: there are the outputs loki, otlp and stdout"):
        Lua()


def haproxy_fields(line: str) -> dict[str, str] | None:
    """What Fluent Bit's parser makes of a line of syslog: Onigmo's named groups are Python's but for a P."""
    (parser,) = [
        p for p in yaml.safe_load((CONFIG / "parsers.yaml").read_text())["parsers"] if p["name"] == "ray_haproxy"
    ]
    match = re.match(parser["regex"].replace("(?<", "(?P<"), line)
    return match.groupdict() if match else None


@pytest.mark.parametrize("header", ["<134>Nov 23 14:36:02 ", "<134>Nov  3 04:06:02 ", "<134>Nov 23 14:36:02 lb-1 "])
def test_the_syslog_header_of_haproxy_is_read(header):
    line = HAPROXY_LINE.replace("<134>Nov 23 14:36:02 ", header)
    assert haproxy_fields(line) == {"pri": "134", "pid": "7", "log": HAPROXY_LINE.split("]: ", 1)[1]}


@pytest.mark.parametrize("line", ["<134>Nov 23 14:36:02 sshd[7]: x", "Nov 23 14:36:02 haproxy[7]: x", "haproxy[7]: x"])
def test_other_lines_of_syslog_are_not_haproxy_s(line):
    assert haproxy_fields(line) is None


def test_access_lines_of_haproxy():
    raw = HAPROXY_LINE.split("]: ", 1)[1]
    code, when, record = Lua().call("ray", "loki.haproxy", haproxy_fields(HAPROXY_LINE))
    assert code == 1
    assert log_cases.iso(when["sec"] * 10**9 + when["nsec"]) == "2026-11-23T14:36:02.385000Z"
    record.pop("node")
    assert record == {
        **{"component": "haproxy", "level": "INFO", "severity_number": 9, "pid": "7", "log_type": "access"},
        **{"client": "10.0.0.1:5678", "server": "main/main-1", "status": "200", "method": "GET"},
        **{"path": "/embed/hi?token=[redacted]", "latency_ms": 140, "message": raw.replace("abc", "[redacted]")},
    }
