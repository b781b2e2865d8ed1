"""The faults that both agents have to live through, and what each cost.

Used by the live tests (the short faults) and by `make drill-logs` (all; the figures go to docs/logs.md). A fault is a
function that makes trouble around a running agent; what was written and what arrived are then compared.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.drill.logs.agents import JSON_RECORD, Agent, Place, Writer
from tests.support.waiting import wait_for


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fault did to one agent: lines written, lost, arrived more than once; and what else is to be said.

    `mib` is its largest memory where the fault is about that, `own_mib` that without mapped files; `wrong` tells what
    else is not as it has to be.
    """

    written: int
    lost: int
    duplicated: int
    note: str = ""
    mib: int = 0
    wrong: str = ""
    own_mib: int = 0


SAID_NOTHING = "the directory is not reported"


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def settle(place: Place, agent: Agent, written: int, *, quiet_s: float = 45) -> Outcome:
    """Wait until all has come, or nothing has for longer than an agent waits between two tries, and compare."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        agent.watch()
        told = place.sink.tally()
        if told["numbered"] != last:
            last, since = told["numbered"], time.monotonic()
        elif told["distinct"] >= written and time.monotonic() - since > 2:
            break
        time.sleep(0.25)
    told = place.sink.tally()
    lost = written - told["distinct"]
    note = f"lost in {len(place.sink.gaps(0, written))} places" if 0 < lost < written else ""
    return Outcome(written=written, lost=lost, duplicated=told["duplicates"], note=note)


def rotation(place: Place, kind: str, *, seconds: float = 45, rate: int = 1200) -> Outcome:
    """The file is rotated at 5 MB, every six seconds or so, while it is written."""
    with place.agent(kind) as agent, Writer(place.serve_file(), rate=rate) as writer:
        for _ in range(int(seconds * 4)):
            agent.watch()
            time.sleep(0.25)
        writer.__exit__()
        rotated = len(list(place.serve_file().parent.glob("*.log.*")))
        outcome = settle(place, agent, writer.count)
    assert rotated >= 1, "nothing was rotated"
    return replace(outcome, note=_join(f"{rotated} rotations", outcome.note))


def restarts(number: int, times: int, *, quiet_s: float = 45) -> Callable[[Place, str], Outcome]:
    """The agent ends by a signal and starts again, several times, while lines are written."""

    def fault(place: Place, kind: str) -> Outcome:
        agent = place.agent(kind)
        with Writer(place.serve_file(), rate=1000, rotate=False) as writer:
            for _ in range(times):
                agent.start()
                before = place.sink.tally()["distinct"]
                wait_for(lambda b=before: place.sink.tally()["distinct"] > b, 30, lambda: "nothing comes", pause_s=0.2)
                time.sleep(1.5)
                agent.stop(number)
            writer.__exit__()
        with agent:
            return settle(place, agent, writer.count, quiet_s=quiet_s)

    return fault


def rotated_while_down(place: Place, kind: str) -> Outcome:
    """The file is rotated while the agent is down: three thousand lines wait in x.log.1 when it comes back."""
    agent = place.agent(kind)
    writer = Writer(place.serve_file(), rate=0)
    writer.write(3000)
    with agent:
        wait_for(lambda: place.sink.tally()["distinct"] == 3000, 60, lambda: "nothing comes", pause_s=0.2)
    writer.write(6000)
    assert place.serve_file().with_suffix(".log.1").exists()
    with agent:
        return settle(place, agent, writer.count)


def outage(seconds: float, rate: int = 1000) -> Callable[[Place, str], Outcome]:
    """The sink answers 503 for some time while lines are written."""

    def fault(place: Place, kind: str) -> Outcome:
        with place.agent(kind) as agent, Writer(place.serve_file(), rate=rate) as writer:
            wait_for(lambda: place.sink.tally()["distinct"] > 500, 30, lambda: "nothing comes", pause_s=0.2)
            place.sink.answer(503)
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                agent.watch()
                time.sleep(0.5)
            place.sink.answer(204)
            time.sleep(2)
            writer.__exit__()
            outcome = settle(place, agent, writer.count)
            assert place.sink.tally()["refused"] > 0, "the sink was never asked"
            mib, own = round(agent.peak_rss / 2**20), round(agent.peak_own / 2**20)
        note = f"at most {mib} MiB of memory, at most {own} without mapped files"
        return replace(outcome, mib=mib, own_mib=own, note=_join(note, outcome.note))

    return fault


def new_session(place: Place, kind: str, *, seconds: float = 8) -> Outcome:
    """Ray starts again: a new session, and the link session_latest with it."""
    link = place.tmp / "session_latest"
    with place.agent(kind) as agent:
        written = 0
        for number in range(2):
            place.logs(number).mkdir(parents=True)
            link.unlink(missing_ok=True)
            link.symlink_to(place.logs(number).parent)
            with Writer(place.serve_file(number), rate=1000, start=number * 10**6) as writer:
                time.sleep(seconds)
            written += writer.count
        return settle(place, agent, written)


def deleted_session(place: Place, kind: str, *, seconds: float = 8) -> Outcome:
    """An old session is deleted, once it was read, while the live one is written."""
    with Writer(place.serve_file(0), rate=1000, start=10**6) as old:
        time.sleep(2)
    with place.agent(kind) as agent, Writer(place.serve_file(1), rate=1000) as writer:
        wait_for(lambda: not place.sink.gaps(10**6, old.count), 30, lambda: "the old one is not read", pause_s=0.2)
        shutil.rmtree(place.logs(0).parent)
        time.sleep(seconds)
        writer.__exit__()
        return settle(place, agent, old.count + writer.count)


def long_line(place: Place, kind: str) -> Outcome:
    """A line of 10 MB among others."""
    with place.agent(kind) as agent:
        writer = Writer(place.serve_file(), rate=0)
        writer.write(500)
        with place.serve_file().open("a") as file:
            file.write(json.dumps(JSON_RECORD | {"message": "n=999999 " + "x" * 10_000_000}) + "\n")
        writer.write(500)
        outcome = settle(place, agent, writer.count + 1)
    cut = [record for record in place.sink.records() if "n=999999 " in record["message"][:100]]
    longest = max((len(record["message"]) for record in cut), default=0)
    marked = all(str(record.get("truncated")).lower() == "true" for record in cut)
    right = len(cut) == 1 and marked and longest == 204_800
    wrong = "" if right else "the long line is not truncated to 204800 and marked"
    note = f"the long line arrived truncated to {longest} bytes, {'marked' if cut and marked else 'not marked'}"
    return replace(outcome, note=_join(note, outcome.note), wrong=wrong)


def unreadable(place: Place, kind: str, *, seconds: float = 20) -> Outcome:
    """Ray and the agent run as the same user, who may not enter a session's directory; in the end he may again."""
    identity = pwd.getpwnam("nobody")
    for number in range(2):
        Writer(place.serve_file(number), rate=0, start=500 * number).write(500)
    for path in (place.tmp, *place.tmp.rglob("*")):
        os.chown(path, identity.pw_uid, identity.pw_gid)
    closed = place.serve_file(0).parent
    closed.chmod(0)
    with place.agent(kind, user="nobody") as agent:
        time.sleep(seconds)
        meanwhile = place.sink.tally()["distinct"]
        said = agent.complaints()
        errors = agent.own('fluentbit_logger_logs_total{message_type="error"}')
        closed.chmod(0o755)
        outcome = settle(place, agent, 1000)
    told = f"logged {len(said)} times: {said[0].replace(str(place.tmp), '$RAY_TMP')}" if said else SAID_NOTHING
    note = f"{meanwhile} of the 500 readable lines arrived meanwhile; {told}"
    wrong = "" if len(set(said)) == 1 and errors >= len(said) else SAID_NOTHING if not said else f"said {set(said)}"
    return replace(outcome, note=_join(note, outcome.note), wrong=wrong)


def other_user(place: Place, kind: str) -> Outcome:
    """The agent runs as another user than root, and everything is readable."""
    writer = Writer(place.serve_file(), rate=0)
    writer.write(5000)
    with place.agent(kind, user="nobody") as agent:
        return settle(place, agent, writer.count)


def other_directory(place: Place, kind: str) -> Outcome:
    """Ray's temporary directory lies elsewhere, with a blank in its path."""
    moved = Place(place.directory / "else where", place.sink)
    writer = Writer(moved.serve_file(), rate=0)
    writer.write(5000)
    with place.agent(kind, ray_tmp=str(moved.tmp)) as agent:
        return settle(place, agent, writer.count)


def underscores(place: Place, kind: str) -> Outcome:
    """Text logs of a deployment My_Model of an application my_app."""
    line = "INFO 2026-11-23 14:36:02,175 my_app_My_Model 28xnycjf -- n={}".format
    writer = Writer(place.serve_file(name="replica_my_app_My_Model_28xnycjf.log"), rate=0, line=line)
    writer.write(5000)
    with place.agent(kind, env={"RAY_SERVE_APPS": "my_app"}) as agent:
        outcome = settle(place, agent, writer.count)
    names = {(record["application"], record["deployment"]) for record in place.sink.records()}
    wrong = names - {("my_app", "My_Model")}
    return replace(outcome, wrong=f"read as {sorted(wrong)}" if wrong else "")


def time_zone(place: Place, kind: str) -> Outcome:
    """Text logs written, and read, in New York."""
    line = "INFO 2026-07-23 14:36:02,175 main_Gateway 28xnycjf -- n={}".format
    writer = Writer(place.serve_file(), rate=0, line=line)
    writer.write(5000)
    with place.agent(kind, env={"TZ": "America/New_York"}) as agent:
        outcome = settle(place, agent, writer.count)
    times = {record["nanoseconds"] for record in place.sink.records()}
    right = times == {1784831762175000000}  # 18:36:02.175 UTC
    return replace(outcome, wrong="" if right else f"wrong times: {sorted(times)[:3]}")


KILLS = 8
FAULTS: dict[str, Callable[[Place, str], Outcome]] = {
    "rotation at 5 MB under load": rotation,
    "SIGTERM and start, eight times": restarts(signal.SIGTERM, 8),
    "kill -9 and start, eight times": restarts(signal.SIGKILL, KILLS),
    "rotation while it is down": rotated_while_down,
    "output down for 30 s": outage(30),
    "output down for 5 min": outage(300),
    "new session while it runs": new_session,
    "old session deleted while it runs": deleted_session,
    "a line of 10 MB": long_line,
    "an unreadable directory, as its owner": unreadable,
    "as another user than root": other_user,
    "another temporary directory": other_directory,
    "names with underscores, in text": underscores,
    "another time zone, in text": time_zone,
}
