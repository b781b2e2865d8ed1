"""Both agents, as real programs: the table of cases, secrets, the real logs of this Serve, faults that lose lines.

The long faults and the figures are those of `make drill-logs`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from demo.stack.component import find
from tests.drill.logs import faults
from tests.drill.logs.agents import Place, Writer, place_below
from tests.drill.logs.bounds import after_kills, bound, breaches
from tests.drill.logs.faults import settle
from tests.support.log_cases import (
    FIXTURES,
    HAPROXY_LINE,
    cases,
    comparable,
    different,
    iso,
    loggers,
    nanoseconds,
    planted_secrets,
    serve_starts,
    session_of,
    write_cases,
)
from tests.support.servers import free_port
from tests.support.waiting import wait_for

KINDS = ("fluent-bit", "fluent-bit-otlp", "otelcol")
# What an agent adds for its backend; the table is about the record.
ADDED = ("job", "cluster", "service.name", "ray.cluster")
# How the controller's lines of each event begin.
EVENTS = {
    "replica_crash": r'"message": "Actor for Replica.* crashed',
    "upscale": r'"message": "Upscaling Deployment',
    "downscale": r'"message": "Downscaling Deployment',
}
# A file of each kind, and what a line of text in it begins with.
PLANTED_FILES = {
    "serve/replica_main_Gateway_f3jxvnsq.log": "INFO 2026-11-23 14:36:02,175 main_Gateway f3jxvnsq -- ",
    "worker-0d3a-01000000-18790.out": "",
    "raylet.out": "[2026-11-23 14:35:09,622 W 15284 15294] (raylet) store.cc:366: ",
}
YOUNG_BYTES = 250_000  # of one file: some 8 MB in all
SECRETS_SESSION, TEXT_SESSION, JSON_SESSION, PLANTED_SESSION = (
    f"session_2026-02-0{day}_00-00-00_000000_1" for day in (1, 2, 3, 4)
)
TABLE = [*cases(), *cases("applications.yaml"), *loggers()]


def needs(kind: str) -> None:
    program = "otelcol" if kind == "otelcol" else "fluent-bit"
    if find(program) is None:
        pytest.skip(f"{program} is neither on the PATH nor below .tools/: see docs/logs.md for where to get it")


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="servescope-logs-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # pytest's own are shut to the agents that run as another user
        with place_below(Path(directory) / "place") as made:
            yield made


@pytest.fixture(scope="module", params=KINDS)
def sent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What one agent sends of the cases, the secrets and the fixtures' real logs, by session."""
    needs(request.param)
    with place_below(tmp_path_factory.mktemp("agents") / "place") as place:
        write_cases(TABLE, place.tmp)
        planted = [line for line, _ in planted_secrets()]
        for file, head in PLANTED_FILES.items():
            path = place.tmp / PLANTED_SESSION / "logs" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (line if line.startswith('{"') else head + line for line in planted)
            path.write_text("".join(f"{line}\n" for line in lines))
        secrets = place.tmp / SECRETS_SESSION / "logs/serve/proxy_192.0.2.2.log"
        secrets.parent.mkdir(parents=True)
        header = "INFO 2026-11-23 14:36:02,175 proxy 192.0.2.2 -- "
        before = [pair[0] for pair in yaml.safe_load((FIXTURES / "redaction.yaml").read_text())]
        secrets.write_text("".join(f"{header}{text}\n" for text in before))
        fields = secrets.with_name("replica_main_Gateway_f3jxvnsq.log")
        as_fields = ({"levelname": "INFO", "message": "a field", "note": text} for text in before)
        fields.write_text("".join(f"{json.dumps(record)}\n" for record in as_fields))
        for session, encoding in ((TEXT_SESSION, "text"), (JSON_SESSION, "json")):
            shutil.copytree(FIXTURES / encoding, place.tmp / session / "logs")
        enough = sum(len(case.records) for case in TABLE if request.param not in case.not_by)
        enough += 2 * len(before) + len(PLANTED_FILES) * len(planted) + 2954 + 119
        with place.agent(request.param, env={"RAY_SERVE_APPS": "my_app"}) as agent:
            last = [0, time.monotonic()]

            def all_came() -> bool:
                agent.watch()
                total = place.sink.tally()["total"]
                if total != last[0]:
                    last[:] = [total, time.monotonic()]
                return total >= enough and time.monotonic() - last[1] > 4

            wait_for(all_came, 90, lambda: f"{place.sink.tally()}, at least {enough} wanted", pause_s=0.5)
        found = defaultdict(list, {"kind": [{"kind": request.param}]})
        for record in place.sink.records():
            found[record["session"]].append(record)
        return found


def value(anything: Any) -> str:
    """A value as text, whatever type a backend keeps it in."""
    if isinstance(anything, bool):
        return str(anything).lower()
    try:
        return f"{float(anything):.10g}"
    except (TypeError, ValueError):
        return str(anything)


def fields(record: dict[str, Any]) -> dict[str, str]:
    return {name: value(v) for name, v in comparable(record).items() if name not in (*ADDED, "nanoseconds", "time")}


def test_fields_are_those_of_the_table(sent):
    for number, case in enumerate(cases()):
        got = sorted(sent[session_of(number)], key=lambda record: record["message"])
        wanted = sorted(case.records, key=lambda record: record["message"])
        assert [fields(record) for record in got] == [fields(record) for record in wanted], case.name
        for record, want in zip(got, wanted, strict=True):
            if "time" in want:  # to the microsecond, one of which Fluent Bit's doubles may round away
                assert iso(record["nanoseconds"] + 1000)[:-2] >= want["time"][:-2], case.name
                assert iso(record["nanoseconds"] - 1000)[:-2] <= want["time"][:-2], case.name


def test_what_applications_print_is_read(sent):
    kind = sent["kind"][0]["kind"]
    wrong = {}
    for number, case in enumerate(TABLE):
        if number < len(cases()) or kind in case.not_by:
            continue
        # Fluent Bit delivers in the order of the file; the Collector each record by itself
        got = sorted(sent[session_of(number)], key=lambda record: record["message"])
        wanted = sorted(case.records, key=lambda record: record.get("message", ""))
        if len(got) != len(wanted):
            wrong[case.name] = [record["message"] for record in got]
            continue
        if len(case.records) > 1 and not all("message" in record for record in case.records):
            got = sorted(sent[session_of(number)], key=lambda record: record["nanoseconds"])
            wanted = case.records
        for record, want in zip(got, wanted, strict=True):
            named = {
                name.replace(".", "_") if kind == "fluent-bit" else name: v
                for name, v in want.items()
                if name != "time"
            }
            shown = {name: None if v is None else value(v) for name, v in named.items()}
            if kind == "otelcol":  # its receiver leaves out blank lines
                shown["message"] = shown.get("message", "").replace("\n\n", "\n") or None
                record["message"] = record["message"] if "message" in want else None
            differs = different({name: value(v) for name, v in record.items() if v is not None}, shown)
            if "time" in want and abs(record["nanoseconds"] - nanoseconds(want["time"])) > 2000:
                differs["time"] = iso(record["nanoseconds"])
            if differs:
                wrong.setdefault(case.name, []).append(differs)
    assert wrong == {}


def test_no_planted_secret_is_sent(sent):
    planted = planted_secrets()
    came = sent[PLANTED_SESSION]
    assert len(came) == len(PLANTED_FILES) * len(planted)
    leaks = {line for line, secret in planted for record in came if secret in json.dumps(record)}
    assert leaks == set()


def test_secrets_are_taken_out(sent):
    after = [pair[1] for pair in yaml.safe_load((FIXTURES / "redaction.yaml").read_text())]
    reported = [record for record in sent[SECRETS_SESSION] if "note" not in record]
    assert Counter(record["message"] for record in reported) == Counter(after)
    noted = [record for record in sent[SECRETS_SESSION] if "note" in record]
    assert Counter(record["note"] for record in noted) == Counter(after)


@pytest.mark.parametrize(("session", "encoding"), [(TEXT_SESSION, "text"), (JSON_SESSION, "json")])
def test_every_record_start_of_the_real_logs_is_sent_once(sent, session, encoding):
    starts = sum(serve_starts(path.read_text()) for path in (FIXTURES / encoding / "serve").iterdir())
    of_serve = [record for record in sent[session] if record["component"].startswith("serve")]
    assert len(of_serve) == starts == {"text": 2954, "json": 119}[encoding]
    assert all(record["nanoseconds"] > 0 and record["level"] != "UNKNOWN" for record in of_serve)


@pytest.mark.parametrize("kind", ["fluent-bit", "otelcol"])
def test_secrets_can_be_let_through(kind, place):
    needs(kind)
    place.serve_file().parent.mkdir(parents=True)
    place.serve_file().write_text('{"levelname": "INFO", "message": "password=x", "db_password": "x"}\n')
    with place.agent(kind, env={"RAY_LOGS_REDACT": "off"}):
        wait_for(lambda: place.sink.tally()["total"] == 1, 30, lambda: "nothing comes", pause_s=0.2)
    (record,) = place.sink.records()
    assert (record["message"], record["db_password"]) == ("password=x", "x")


ODD_KEYS = (
    *("message", "msg", "event", "text", "level", "levelname", "severity", "time", "timestamp", "ts"),
    *("timestamp_ns", "asctime", "filename", "lineno", "process", "actor_name", "deployment", "application"),
    *("request_id", "exc_text", "exception", "log", "file", "record", "component", "node", "status"),
    *("client", "name", "value", "custom_fields", "err", "", "a.b"),
)  # fmt: skip


def odd_value(random: Random, depth: int = 0) -> Any:
    """A JSON value of any type, some of them deep."""
    kind = random.randrange(9 if depth < 5 else 7)
    if kind == 7:
        return [odd_value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 8:
        return {random.choice(ODD_KEYS): odd_value(random, depth + 1) for _ in range(random.randrange(4))}
    return (None, True, random.randrange(-(10**18), 10**18), random.random() * 10**9, "x\u0000\ud7ff\n é", "INFO", "")[
        kind
    ]


def odd_lines() -> list[str]:
    """Lines of JSON as no logger should print them, each with a secret and beside one of text."""
    random, lines = Random(24), []
    for number in range(400):
        odd = {random.choice(ODD_KEYS): odd_value(random) for _ in range(random.randrange(1, 6))}
        odd[random.choice(ODD_KEYS)] = random.choice(
            ({"password": "S3cr3t"}, ["token=S3cr3t"], [["api_key", "S3cr3t"]])
        )
        lines += [json.dumps(odd), f"password=S3cr3t n={number}"]
    for depth in (40, 1000):
        lines += ['{"a":' * depth + '{"password":"S3cr3t"}' + "}" * depth, '{"a":' + "[" * depth + "]" * depth + "}"]
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_odd_lines_are_records_without_secrets_and_so_are_their_neighbours(kind, place):
    needs(kind)
    lines = odd_lines()
    printed = place.logs() / "worker-0d3a-01000000-18790.out"
    printed.parent.mkdir(parents=True)
    printed.write_text("".join(f"{line}\n" for line in lines))
    serve = place.serve_file()
    serve.parent.mkdir(parents=True)
    head = "INFO 2026-11-23 14:36:02,175 main_Gateway f3jxvnsq -- "
    serve.write_text("".join(f"{'' if line.startswith('{') else head}{line}\n" for line in lines))
    with place.agent(kind) as agent:

        def came() -> bool:
            agent.watch()
            return place.sink.tally()["total"] >= 2 * len(lines)

        wait_for(came, 60, lambda: f"{place.sink.tally()}, {2 * len(lines)} wanted", pause_s=0.5)
    records = place.sink.records()
    assert len(records) == 2 * len(lines)
    assert place.sink.tally()["distinct"] == 400
    assert Counter(record["component"] for record in records) == {"worker": len(lines), "serve_replica": len(lines)}
    assert [record for record in records if "S3cr3t" in json.dumps(record)] == []
    assert not any("unread" in record for record in records)


def copy_of_a_younger_session(logs: Path, target: Path) -> list[str]:
    """Copy Serve's files and what workers print, each as it was when it was small; returns the records of Serve.

    The session goes on writing, and by the time that this test runs it may have written for a quarter of an hour.
    """
    records = []
    for path in sorted((*logs.glob("serve/*.log"), *logs.glob("worker-*.err"), *logs.glob("worker-*.out"))):
        with path.open("rb") as file:
            text = file.read(YOUNG_BYTES)
        text = text[: text.rfind(b"\n") + 1]
        copy = target / path.relative_to(logs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text)
        if path.parent.name == "serve":
            lines = text.decode().splitlines()
            assert all(serve_starts(line) for line in lines), f"{path.name} is not all JSON"
            records += [f"{path.name}: {line}" for line in lines]
    return records


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_of_this_serve_is_sent_once(kind, traffic_done, place):
    needs(kind)
    (session,) = {path.resolve() for path in traffic_done.temp_dir.glob("session_2*")}
    written = copy_of_a_younger_session(session / "logs", place.tmp / session.name / "logs")
    assert len(written) > 500
    total = [0, time.monotonic()]
    with place.agent(kind) as agent:

        def all_came() -> bool:
            agent.watch()
            reported = place.sink.tally()
            if reported["total"] != total[0]:
                total[:] = [reported["total"], time.monotonic()]
            return reported["serve"] >= len(written) and time.monotonic() - total[1] > 3

        wait_for(all_came, 120, lambda: f"{place.sink.tally()}, {len(written)} of Serve wanted", pause_s=0.5)
        events = agent.events()
    came = [record for record in place.sink.records() if record["component"].startswith("serve")]
    assert len(came) == len(written)
    # the same number again of different ones: none came for another that was lost
    assert len({json.dumps(record, sort_keys=True) for record in came}) == len(set(written))
    # Events from the logs only: the test's crash and its scaling, each line counted once.
    logged = {
        event: sum(line.startswith("controller_") and bool(re.search(words, line)) for line in written)
        for event, words in EVENTS.items()
    }
    counted = dict.fromkeys(EVENTS, 0.0)
    for family in text_string_to_metric_families(events):
        for sample in family.samples:
            if sample.name == "servescope_log_events_total" and sample.labels["event"] in counted:
                counted[sample.labels["event"]] += sample.value
    assert counted == logged
    assert logged["replica_crash"] > 0 < logged["upscale"]


@pytest.mark.parametrize("kind", ["fluent-bit", "otelcol"])
def test_nothing_is_lost_through_rotation_an_outage_and_sigterm(kind, place):
    needs(kind)
    agent = place.agent(kind)
    agent.start()
    try:
        with Writer(place.serve_file(), rate=1000) as writer:
            wait_for(lambda: place.sink.tally()["distinct"] > 500, 30, lambda: "nothing comes", pause_s=0.2)
            place.sink.answer(503)
            time.sleep(15)  # the fault itself: half of the outage, then a restart in it
        agent.stop(signal.SIGTERM)
        agent.start()
        with Writer(place.serve_file(), rate=1000, start=writer.written) as second:
            time.sleep(15)
            place.sink.answer(204)
        outcome = settle(place, agent, second.written)
        assert len(list(place.serve_file().parent.glob("*.log.*"))) >= 2
        assert place.sink.tally()["refused"] > 0
        assert (outcome.lost, outcome.duplicated) == (0, 0)
    finally:
        agent.stop()


@pytest.mark.parametrize("kind", ["fluent-bit", "otelcol"])
def test_kill_9_costs_at_most_the_pending_record(kind, place):
    needs(kind)
    outcome = faults.restarts(signal.SIGKILL, 2, quiet_s=8)(place, kind)
    assert outcome.written > 2000
    assert breaches(outcome, after_kills(2, kind)) == []


@pytest.mark.parametrize("kind", ["fluent-bit", "otelcol"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("new session while it runs", partial(faults.new_session, seconds=3)),
        ("old session deleted while it runs", partial(faults.deleted_session, seconds=3)),
        ("a line of 10 MB", faults.long_line),
        ("an unreadable directory, as its owner", partial(faults.unreadable, seconds=8)),
    ],
    ids=["new-session", "deleted-session", "long-line", "unreadable-directory"],
)
def test_a_fault_costs_no_more_than_is_allowed(name, fault, kind, place):
    """The bounds are those of `make drill-logs`; nothing is lost in any of these."""
    needs(kind)
    if "unreadable" in name and os.geteuid() != 0:
        pytest.skip("only root can run an agent as another user, and may enter every directory itself")
    outcome = fault(place, kind)
    assert outcome.written >= 1000
    assert outcome.lost == 0
    assert breaches(outcome, bound(name, kind)) == []


def test_the_collector_counts_what_the_backend_refuses_for_good(place):
    """The series of ServescopeCollectorLogsDropped; an outage, which is tried again, does not count."""
    needs("otelcol")
    failed = "otelcol_exporter_send_failed_log_records"
    writer = Writer(place.serve_file(), rate=0)
    with place.agent("otelcol") as agent:
        place.sink.answer(503)
        writer.write(100)
        wait_for(lambda: place.sink.tally()["refused"] >= 3, 30, lambda: "nothing is sent", pause_s=0.2)
        assert agent.own(failed) == 0
        place.sink.answer(400)
        wait_for(lambda: agent.own(failed) >= 100, 60, lambda: f"{agent.own(failed)} of 100", pause_s=0.5)
        assert agent.own(failed) == 100
    assert place.sink.tally()["total"] == 0


def test_haproxy_s_access_log_comes_by_syslog(place):
    needs("fluent-bit")
    port = free_port()
    agent = place.agent("fluent-bit", entry="haproxy.yaml", env={"HAPROXY_LOG_PORT": str(port)})
    with agent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:

        def came() -> bool:
            for line in (HAPROXY_LINE, HAPROXY_LINE.replace("<134>Nov 23", "<131>Nov  3")):
                udp.sendto(line.encode(), ("127.0.0.1", port))
            return place.sink.tally()["total"] >= 2

        wait_for(came, 30, lambda: f"{place.sink.tally()}", pause_s=0.5)
    levels = {record["level"] for record in place.sink.records()}
    assert levels == {"INFO", "ERROR"}
    for record in place.sink.records():
        assert record["component"] == "haproxy"
        assert (record["status"], record["method"], record["server"]) == ("200", "GET", "main/main-1")
        assert (record["pid"], value(record["latency_ms"])) == ("7", "140")
        assert iso(record["nanoseconds"]) == "2026-11-23T14:36:02.385000Z"
        assert record["path"] == "/embed/hi?token=[redacted]"


def test_an_output_that_is_not_there_stops_fluent_bit(place):
    needs("fluent-bit")
    agent = place.agent("fluent-bit", env={"RAY_LOGS_TO": "lokki"})
    agent.start()
    wait_for(lambda: agent._process.poll() is not None, 20, lambda: "it runs on", pause_s=0.2)
    assert agent._process.returncode != 0
    assert "RAY_LOGS_TO=lokki: there are the outputs loki, otlp and stdout" in agent.log.read_text()
