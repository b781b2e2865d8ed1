"""Log lines from files: the Collector's, and Ray's own, which fluentbit/ray.lua reads."""

from __future__ import annotations

import builtins
import json
import os
import time
from pathlib import Path

import pytest

from servescope.clients import log_files, log_lines, otlp_files, ray_lua
from servescope.clients.model import Trace, record_of
from servescope.errors import ServescopeError
from tests.support import in_process
from tests.support.trace_files import A, document, write_logs, write_traces

AT = time.mktime((2026, 11, 25, 10, 0, 0, 0, 0, -1))
REPLICA = "replica_main_A_x1.log"


def collected(folder: Path, *lines: dict[str, object], name: str = "logs.json", at: float = AT) -> Path:
    """A file as the Collector's file exporter writes it: labels are the resource's, the other fields the record's."""
    folder.mkdir(exist_ok=True)

    def pairs(fields: dict[str, object]) -> list[dict[str, object]]:
        return [{"key": key, "value": {"stringValue": value}} for key, value in fields.items()]

    def of(number: int, fields: dict[str, object]) -> str:
        labels = {key: fields[key] for key in ("level", "component", "application", "deployment") if key in fields}
        others = {key: value for key, value in fields.items() if key not in labels and key != "message"}
        record = {
            "timeUnixNano": str(round((at + number) * 1e9)),
            "body": {"stringValue": fields["message"]},
            "attributes": pairs(others),
        }
        scopes = [{"logRecords": [record]}]
        return json.dumps({"resourceLogs": [{"resource": {"attributes": pairs(labels)}, "scopeLogs": scopes}]})

    with (folder / name).open("a") as file:
        file.writelines(of(number, fields) + "\n" for number, fields in enumerate(lines))
    return folder


def test_the_collectors_files_hold_the_fields_of_a_record(tmp_path: Path):
    one = {
        "level": "ERROR",
        "component": "serve_replica",
        "application": "main",
        "deployment": "A",
        "request_id": "r 1",
    }
    folder = collected(tmp_path / "c", {**one, "message": "broke", "trace_id": A}, {"message": "later"})
    collected(folder, {"component": "raylet", "message": "old"}, name="logs-2026.json", at=AT - 500)
    (folder / "logs.json").open("a").write('{"resourceLogs": [{]}\n{"resourceLogs": [')
    said: list[str] = []
    first, second = log_lines.read(folder, AT - 1, AT + 1, report=said.append)
    assert (first.source, first.level, first.text, first.ids) == ("main/A", "ERROR", "broke", {"r 1", A})
    assert first.fields["component"] == "serve_replica"
    assert second.text == "later"
    of_a_proxy = record_of(1, {"message": "m", "component": "serve_proxy", "application": "main"})
    assert of_a_proxy.source == "serve_proxy"
    assert said == [f"{folder / 'logs.json'}: skipped lines that hold no OTLP logs: 1"]
    assert [record.text for record in log_lines.read(folder, AT - 600, AT, holding=["old", "broke"])] == [
        "old",
        "broke",
    ]


def test_log_lines_are_those_of_the_request_and_of_its_batches(tmp_path: Path):
    trace = otlp_files.read_traces(write_traces(tmp_path / "collector"))[A]
    lines = log_lines.of_trace(trace, write_logs(tmp_path / "logs"))
    assert [(line.source, line.text, line.span_id) for line in lines] == [
        ("main/Gateway", "hello [x]", "a2"),
        ("main/Batch", "in a batch", ""),
    ]


def session(tmp_path: Path, **files: str) -> Path:
    serve = tmp_path / "session_1/logs/serve"
    serve.mkdir(parents=True)
    for name, text in files.items():
        (serve / f"{name}.log").write_text(text)
    return tmp_path / "session_1"


def test_rays_own_files_are_read_as_the_agents_read_them(tmp_path: Path):
    """Application and deployment apart, secrets gone, a traceback with its line; a client's request id is any text."""
    folder = session(
        tmp_path,
        replica_main_A_x1="INFO 2026-11-25 09:00:00,000 main_A x1 -- long before\n"
        "ERROR 2026-11-25 10:00:01,500 main_A x1 order-17 -- broke password=hunter2\nTraceback:\n  line\n",
        proxy_10="INFO 2026-11-25 10:00:02,000 proxy 10.0.0.1 order-17 -- GET /a 200 1.5ms\n",
    )
    records = log_lines.read(folder, AT - 60, AT + 60)
    assert [(record.source, record.level, record.text) for record in records] == [
        ("main/A", "ERROR", "broke password=[redacted]\nTraceback:\n  line"),
        ("serve_proxy", "INFO", "GET /a 200 1.5ms"),
    ]
    assert [record.ids for record in records] == [{"order-17"}, {"order-17"}]
    assert (records[1].fields["status"], records[1].fields["latency_ms"]) == ("200", 1.5)
    assert records[0].unix_ms == round((AT + 1.5) * 1000)
    (span,) = otlp_files.spans_of(
        json.loads(document(A, "a1", request_id="order-17", start_ms=round(AT * 1e3) - 17 * 10**11))
    )
    assert len(log_lines.of_trace(Trace(A, [span]), folder)) == 2
    for wrong in (folder / "logs/serve", folder / "logs"):
        assert len(log_lines.read(wrong, AT - 60, AT + 60)) == 2


def test_any_bytes_are_read(tmp_path: Path):
    folder = session(tmp_path)
    (folder / "logs/serve" / REPLICA).write_bytes(
        b"INFO 2026-11-25 10:00:00,000 main_A x1 -- caf\xe9 \x00 \xed\xa0\x80\n"
    )
    (record,) = log_lines.read(folder, AT, AT)
    assert record.text.startswith("caf\ufffd")
    record.text.encode()


@pytest.mark.parametrize("request_ids", [5, "r-a", None])
def test_request_ids_of_another_type_are_none(request_ids):
    assert record_of(1, {"message": "m", "request_ids": request_ids}).request_ids == ()


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ServescopeError, match="no log files; pass a session's directory"):
        log_lines.read(tmp_path, 0, 1)
    with pytest.raises(ServescopeError, match="nowhere: no such folder"):
        log_lines.read(tmp_path / "nowhere", 0, 1)
    with pytest.raises(ServescopeError, match="LOGS_TO and LOGS_DIR"):
        log_files.read_records(tmp_path, 0, 1)
    real = builtins.__import__

    def without_lupa(name: str, *rest: object, **more: object) -> object:
        if name == "lupa":
            raise ImportError("No module named 'lupa'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_lupa)
    with pytest.raises(ServescopeError, match=r"needs the extra servescope\[logs\]"):
        ray_lua.Lua()


@pytest.mark.parametrize("from_ray", [True, False])
def test_following_gives_what_is_written_later_once_across_rotations(tmp_path: Path, from_ray: bool):
    line = "INFO 2026-11-25 10:00:00,000 main_A x1 -- {}\n".format
    if from_ray:
        folder = session(tmp_path, replica_main_A_x1=line("before"))
        place, name = folder / "logs/serve", REPLICA
    else:
        place, name = folder, _ = collected(tmp_path / "c", {"message": "before"}), "logs.json"
    follower = log_lines.Follower(folder)
    assert follower.records() == []

    def write(text: str) -> None:
        if from_ray:
            with (place / name).open("a") as file:
                file.write(line(text))
        else:
            collected(place, {"message": text})

    write("one")
    assert [record.text for record in follower.records()] == ["one"]
    write("two")
    os.rename(place / name, place / (f"{name}.1" if from_ray else "logs-old.json"))
    write("three")
    assert sorted(record.text for record in follower.records()) == ["three", "two"]
    with (place / name).open("a") as file:
        file.write("INFO 2026-11-25 10:00:00,000 main")  # not complete
    assert follower.records() == []


def test_the_command(tmp_path: Path):
    now = time.time()
    folder = collected(
        tmp_path / "c",
        {"message": "[fine]", "level": "INFO", "application": "main", "deployment": "A", "request_id": "r1"},
        {"message": "bad", "level": "ERROR", "application": "main", "deployment": "B", "request_id": "r1"},
        {"message": "odd", "level": "UNKNOWN", "component": "worker"},
        at=now - 100,
    )
    collected(folder, {"message": "old", "level": "ERROR"}, name="logs-old.json", at=now - 7200)

    def said(*arguments: str) -> list[str]:
        ended = in_process.servescope("logs", folder, *arguments)
        assert (ended.code, ended.err) == (0, "")
        return [text[25:] for text in ended.out.splitlines()]

    assert said() == ["INFO     main/A  [fine]", "ERROR    main/B  bad", "UNKNOWN  worker  odd"]
    assert said("--since", "3h", "--level", "warning") == ["ERROR      old", "ERROR    main/B  bad"]
    assert said("--deployment", "A") == said("--deployment", "main/A") == ["INFO     main/A  [fine]"]
    assert said("--request", "r1", "--level", "ERROR") == ["ERROR    main/B  bad"]
    for wrong in (["--level", "loud"], ["--since", "soon"]):
        ended = in_process.servescope("logs", folder, *wrong)
        in_process.assert_known(ended)
        assert ended.code == 1
        assert wrong[0] in ended.err
