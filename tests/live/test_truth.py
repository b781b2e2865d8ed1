"""What the panels say equals what the client counted. `make truth` prints the table and writes docs/truth.md."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import httpx
import pytest
from rich.console import Console
from rich.markup import escape

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.grafana.templating import Interpolation
from servescope.report.queries import Window, ask, panels_of, select_variables
from servescope.settings import Settings
from tests.live import truth_load
from tests.live.truth_load import (
    GONE,
    HOLD_CALLERS,
    HOLD_QUEUE,
    SESSIONS,
    SETTLED_AFTER_S,
    STEADY_S,
    Answer,
    Counted,
)
from tests.live.truth_names import SESSION_S, TALK, WORKER
from tests.live.versions import older
from tests.support.waiting import wait_for

SETTINGS = Settings()
OVERVIEW, DEPLOYMENT, SLO = "servescope-overview", "servescope-deployment", "servescope-slo"
WITHIN = 0.05
RECORDED_AGE_S = 30  # the interval of the rules, twice: one may build on another
# What a request of 25 s ago has reached: Ray exports every 10 s and Prometheus scrapes every 15 s.
ARRIVES_WITHIN_S = 25
Points = list[tuple[float, float]]
Chosen = dict[str, list[str]]  # what is chosen in the dashboard's variables


@dataclass(frozen=True)
class Row:
    """One figure of the truth table."""

    panel: str
    figure: str
    client: str
    prometheus: str
    difference: str


@dataclass
class Truth:
    """The finished load, the Prometheus that watched it, and the table of what was held against what."""

    load: Counted
    prometheus: Prometheus
    rows: list[Row] = field(default_factory=list)

    @property
    def steady(self) -> Window:
        """Three minutes in which every rate window is full of the steady load."""
        return Window(self.load.started + SETTLED_AFTER_S, self.load.started + STEADY_S)

    @property
    def holding(self) -> Window:
        """The part of the hold that has reached Prometheus."""
        return Window(self.load.hold_started + 35, self.load.hold_started + 60, step_s=5)

    @property
    def ray_version(self) -> str:
        """As Ray reports it."""
        versions = self.prometheus.query("group by (Version) (ray_serve_application_status)")
        (version,) = {one["metric"]["Version"] for one in versions}
        return str(version)

    @property
    def code_of_broken_streams(self) -> str:
        """The status under which the proxies count a stream that broke after its status 200 was sent."""
        return "500" if older(self.ray_version, "2.60") else "200"

    def series(
        self, board: str, title: str, window: Window, chosen: Chosen, ref: int = 0, recorded: bool = False
    ) -> list[tuple[dict[str, str], Points]]:
        """The series that one target of a panel draws: labels and points (unix seconds, value)."""
        (document,) = [b.to_json() for b in all_dashboards(SETTINGS, recorded=recorded) if b.uid == board]
        (panel,) = [p for p in panels_of(document) if p["title"] == title]
        scope = Interpolation(
            select_variables(document, self.prometheus, window, chosen=chosen, every=True), window.macros()
        )
        # A table's target is asked over the window too: its figures are compared as those of a graph.
        target = panel["targets"][ref] | {"instant": False}
        (answer,) = ask({"targets": [target]}, self.prometheus, window=window, scope=scope)
        return [(s.labels, s.points) for s in answer.series]

    def one(self, board: str, title: str, window: Window, chosen: Chosen, ref: int = 0, **labels: str) -> Points:
        """The points of the only series with these labels."""
        found = [
            points
            for metric, points in self.series(board, title, window, chosen, ref)
            if labels.items() <= metric.items()
        ]
        assert len(found) == 1, f"{board} / {title}: {len(found)} series with {labels}"
        return found[0]

    def hold(self, panel: str, figure: str, points: Points, client: list[float], form: str = ".2f") -> float:
        """Write a line of the table of a panel's mean against the client's, which depends on the points' age.

        Returns:
            the difference from the nearest of the client's figures, as a share of it.
        """
        value = mean(v for _, v in points)
        self.add(panel, figure, mean(client), value, form)
        nearest = min(max(value, min(client)), max(client))
        return abs(value - nearest) / nearest

    def add(self, panel: str, figure: str, client: float, prometheus: float, form: str = ".2f") -> float:
        """Write a line of the table; returns the difference as a share of the client's figure."""
        apart = abs(prometheus - client) / client if client else abs(prometheus)
        self.rows.append(Row(panel, figure, format(client, form), format(prometheus, form), f"{apart:.1%}"))
        return apart


@pytest.fixture(scope="module")
def truth(run, truth_load) -> Iterator[Truth]:
    """The truth after the load has ended and its last request has reached Prometheus."""
    wait_for(truth_load.finished, STEADY_S + 90, lambda: "the load does not end")
    settled = max(answer.at for answer in truth_load.counted.steady) + ARRIVES_WITHIN_S
    wait_for(lambda: time.time() >= settled, ARRIVES_WITHIN_S + 5, lambda: "the clock stands", pause_s=0.5)
    with Prometheus(run.prometheus_url) as prometheus:
        result = Truth(truth_load.counted, prometheus)
        yield result
    publish(result.rows)


def publish(rows: list[Row]) -> None:
    """Print the table, and write it where TRUTH_TABLE says."""
    lines = [
        "# Validation: panels compared with the client's own count",
        "",
        "Written by `make truth`. A seeded client counts its own requests while a live Ray Serve answers "
        "them and a Prometheus scrapes",
        "Ray; then the query of each panel is evaluated. Rates, ratios and quantiles are means over three "
        "minutes of constant load. A",
        "latency may differ by the width of Ray's bucket, so the table shows the bucket. Failed calls are "
        "compared with the deployment's",
        "own count. `make test-live` compares the same figures in every run and fails where they differ.",
        "",
        "| panel | figure | client | Prometheus | difference |",
        "|---|---|---:|---:|---:|",
        *(f"| {r.panel} | {r.figure} | {r.client} | {r.prometheus} | {r.difference} |" for r in rows),
        "",
    ]
    Console(soft_wrap=True).print(escape("\n".join(lines[9:])))
    if os.environ.get("TRUTH_TABLE"):
        Path(os.environ["TRUTH_TABLE"]).write_text("\n".join(lines))


@dataclass(frozen=True)
class Minutes:
    """The client's requests over the minutes that the points of a panel speak of.

    What a point has seen is up to half a minute old, and how old the test does not know: where a moment of a slow
    machine lies at an end of the window, one age holds it and another does not.
    """

    at: list[float]  # when each request ended, ascending (unix seconds)

    @classmethod
    def of(cls, answers: list[Answer], wanted: Callable[[Answer], int] = lambda a: 1) -> Minutes:
        """The requests that are wanted, as often as that says."""
        return cls(sorted(a.at for a in answers for _ in range(wanted(a))))

    def per_second(self, points: Points) -> list[float]:
        """The mean rate over the minutes of the points, for each age."""
        return [mean(self._minute(t - age) for t, _ in points) for age in range(0, 40, 5)]

    def _minute(self, end: float) -> float:
        return (bisect_left(self.at, end) - bisect_left(self.at, end - 60)) / 60


def calls_of(deployment: str) -> Callable[[Answer], bool]:
    return any_call if deployment == "Front" else lambda a: a.path.startswith("/truth/work")


def any_call(answer: Answer) -> bool:
    return True


def failed(answer: Answer) -> bool:
    """Whether the call ends in an exception inside Serve: ours, or the cancellation when the client goes away."""
    return answer.path.startswith("/truth/work") and answer.status != 200


TRUTH = {"application": ["truth"]}

# title of the query -> what the client calls it
OUTCOMES = {
    0: ("success", lambda a: a.status == 200),
    1: ("error (5xx)", lambda a: a.status == 500),
    2: ("back-pressure (503, 429)", lambda a: a.status in (503, 429)),
    3: ("client disconnected (499)", lambda a: a.status == GONE),
    4: ("client error (4xx)", lambda a: a.status == 418),
}


def test_the_load_was_what_it_should_be(truth):
    """A condition for all that follows: the mix arrived and nothing else."""
    wanted = {(path, times * STEADY_S * truth_load.PER_SECOND // 100) for path, _, times in truth_load.MIX}
    assert set(Counter(a.path for a in truth.load.steady).items()) == wanted
    statuses = {path: {a.status for a in truth.load.steady if a.path == path} for path, _, _ in truth_load.MIX}
    assert statuses["/truth/work?ms=10000"] == {GONE}
    assert statuses["/truth/work?ms=-1"] == {500}
    assert all(statuses[f"/truth/work?ms={ms}"] == {200} for ms in (650, 800, 3000, 7000))
    assert all(statuses[f"/truth/status/{code}"] == {code} for code in (418, 429, 503))


def test_counters_equal_the_clients_count(truth):
    counted = Counter((a.path.partition("?")[0], a.status) for a in truth.load.steady)
    routes = {"/truth/work": "/truth/work", **{f"/truth/status/{c}": "/truth/status/{code}" for c in (418, 429, 503)}}
    client = Counter({(routes[path], str(status)): count for (path, status), count in counted.items()})
    found = truth.prometheus.query(
        'sum by (route, status_code) (ray_serve_num_http_requests_total{application="truth"})'
    )
    said = {(s["metric"]["route"], s["metric"]["status_code"]): float(s["value"][1]) for s in found}
    for (route, status), count in sorted(client.items()):
        truth.add("counters after the load", f"{route} {status}", count, said.get((route, status), 0), ".0f")
    assert said == dict(client)


def test_failed_calls_are_counted_from_the_first(truth, run):
    """Each deployment's own count: where the machine is slow, a client may be gone before its call gets there."""
    whole = Window(truth.load.started - 30, time.time())
    sure, most = (sum(failed(a) and a.status in which for a in truth.load.steady) for which in ((500,), (500, GONE)))
    for deployment in ("Front", WORKER):
        points = truth.one(OVERVIEW, "Failed calls", whole, TRUTH, deployment=deployment)
        own = httpx.get(f"{run.serve_url}/held/failed/{deployment}", timeout=30).raise_for_status().json()
        assert sure < own <= most
        truth.add("Failed calls", f"{deployment}, all", own, sum(v for _, v in points), ".0f")
        assert sum(v for _, v in points) == own


def test_the_error_budget_counts_what_the_client_counted(truth):
    """Back-pressure breaks the promise too, unless the objective says otherwise; a client that went away does not."""
    bad = sum(a.status in (429, 500, 503) for a in truth.load.steady)
    checks = {
        "requests of the hour": ("Objectives", 4, len(truth.load.steady)),
        "bad requests of the hour": ("Bad requests per hour", 0, bad),
    }

    def said(figure: str) -> float:
        title, ref, _ = checks[figure]
        now = Window(time.time() - 5, time.time(), step_s=5)
        return truth.one(SLO, title, now, {"slo": ["truth"]}, ref, slo="truth", sli="availability")[-1][1]

    def wrong() -> list[str]:
        figures = {figure: (said(figure), client) for figure, (_, _, client) in checks.items()}
        return [f"{figure}: {value:g} for {client}" for figure, (value, client) in figures.items() if value != client]

    # The counts are recorded once a minute, a scrape late.
    wait_for(lambda: not wrong(), 105, lambda: "; ".join(wrong()))
    for figure, (title, _, client) in checks.items():
        truth.add(title, f"truth, {figure}", client, said(figure), ".0f")


def test_request_rates(truth):
    window, answers = truth.steady, truth.load.steady
    every = Minutes.of(answers)
    requests = truth.one(OVERVIEW, "Requests", window, TRUTH)
    by_application = truth.one(OVERVIEW, "Requests by application", window, TRUTH, application="truth")
    apart = {
        "Requests": truth.hold("Requests", "requests/s", requests, every.per_second(requests)),
        "by application": truth.hold(
            "Requests by application", "truth, requests/s", by_application, every.per_second(by_application)
        ),
    }
    for ref, (name, wanted) in OUTCOMES.items():
        points = truth.one(OVERVIEW, "Requests by outcome", window, TRUTH, ref)
        client = Minutes.of(answers, wanted).per_second(points)
        apart[name] = truth.hold("Requests by outcome", f"{name}, requests/s", points, client)
    for code in (418, 429, GONE, 500, 503):
        points = truth.one(OVERVIEW, "Non-success responses by status code", window, TRUTH, status_code=str(code))
        client = Minutes.of(answers, lambda a, code=code: a.status == code).per_second(points)
        apart[str(code)] = truth.hold("Non-success responses", f"{code}, requests/s", points, client)
    for deployment in ("Front", WORKER):
        points = truth.one(DEPLOYMENT, "Calls by deployment", window, TRUTH, deployment=deployment)
        client = Minutes.of(answers, calls_of(deployment)).per_second(points)
        apart[deployment] = truth.hold("Calls by deployment", f"{deployment}, calls/s", points, client)
    # The front is called by every request, the worker by most; both fail where one does.
    calls = {
        "ok": lambda a: 0 if failed(a) else 1 + calls_of(WORKER)(a),
        "error": lambda a: 2 * failed(a),
    }
    for ref, (name, count) in enumerate(calls.items()):
        points = truth.one(DEPLOYMENT, "Calls by outcome", window, TRUTH, ref)
        client = Minutes.of(answers, count).per_second(points)
        apart[f"calls, {name}"] = truth.hold("Calls by outcome", f"{name}, calls/s", points, client)
    assert {what: share for what, share in apart.items() if share > WITHIN} == {}


def test_ratios(truth):
    window, answers = truth.steady, truth.load.steady
    apart = {}

    def check(
        title: str, figure: str, points: Points, part: Callable[[Answer], bool], whole: Callable[[Answer], bool]
    ) -> None:
        parts = Minutes.of(answers, lambda a: whole(a) and part(a)).per_second(points)
        wholes = Minutes.of(answers, whole).per_second(points)
        client = [p / w for p, w in zip(parts, wholes, strict=True)]
        apart[f"{title}: {figure}"] = truth.hold(title, figure, points, client, ".2%")

    for title in ("Error ratio", "Error ratio by application"):
        check(title, "5xx of all", truth.one(OVERVIEW, title, window, TRUTH), lambda a: a.status >= 500, any_call)
    shed = truth.one(OVERVIEW, "Back-pressure", window, TRUTH)
    check("Back-pressure", "503 and 429 of all", shed, lambda a: a.status in (503, 429), any_call)
    for deployment in ("Front", WORKER):
        points = truth.one(DEPLOYMENT, "Error ratio by deployment", window, TRUTH, deployment=deployment)
        check("Error ratio", deployment, points, failed, calls_of(deployment))
    assert {what: share for what, share in apart.items() if share > WITHIN} == {}


def asked_ms(answer: Answer) -> float:
    """How long it takes at least: as long as the worker was told to, or until the client went away."""
    if answer.status == GONE:
        return answer.ms
    return max(1.0, float(answer.path.partition("ms=")[2] or 0))


def bucket_of(value: float, bounds: list[float]) -> tuple[float, float]:
    position = bisect_left(bounds, value)
    return (bounds[position - 1] if position else 0.0), bounds[position]


def quantile(q: float, answers: list[tuple[float, float]], start: float, end: float) -> float:
    """The q-quantile of the latencies among (unix seconds, ms) of that time."""
    inside = sorted(ms for at, ms in answers if start <= at < end)
    return inside[int(q * len(inside))]


def test_quantiles_lie_in_the_bucket_of_the_clients_own(truth):
    window, answers = truth.steady, truth.load.steady
    ends = truth.prometheus.label_values(
        "le", 'ray_serve_http_request_latency_ms_bucket{application="truth"}', start=window.start, end=window.end
    )
    bounds = sorted(float(le) for le in ends)
    worker = [a for a in answers if calls_of(WORKER)(a)]
    # The client's own time holds its way to Serve and back, and its own waiting, which are long on a busy machine: the
    # truth lies between what the request had to take and what the client saw.
    wanted = {("Latency", "", OVERVIEW, ""): answers, ("Processing time", f"{WORKER} ", DEPLOYMENT, WORKER): worker}
    wrong = []
    for (panel, who, board, deployment), own_answers in wanted.items():
        least, most = [(a.at, asked_ms(a)) for a in own_answers], [(a.at, a.ms) for a in own_answers]
        for ref, q in enumerate((0.5, 0.95, 0.99)):
            chosen = {**TRUTH, "deployment": [deployment]} if deployment else TRUTH
            points = truth.one(board, panel, window, chosen, ref)
            own = quantile(q, least if deployment else most, window.start, window.end)
            low, high = bucket_of(own, bounds)
            truth.rows.append(
                Row(
                    panel,
                    f"{who}p{100 * q:g}",
                    f"{own:.0f} ms",
                    f"{mean(v for _, v in points):.0f} ms",
                    f"bucket {low:.0f} to {high:.0f} ms",
                )
            )
            for t, value in points:
                # The client's own quantile over the minutes that the point may speak of: what it has seen is up to
                # half a minute old. A moment in which the machine is slow then moves both.
                minutes = [(t - 60 - late, t - late) for late in range(0, 40, 5)]
                low = bucket_of(min(quantile(q, least, *minute) for minute in minutes), bounds)[0]
                high = bucket_of(max(quantile(q, most, *minute) for minute in minutes), bounds)[1]
                if not low < value <= high:
                    wrong.append(f"{panel} {who}p{100 * q:g}: {value:.0f} not in {low:.0f}..{high:.0f}")
    assert wrong == []


SESSION_CODES = {"client disconnected": GONE, **{str(code): code for code in (1000, 1001, 1011, 4001)}}
TALKING = {"application": ["sessions"]}


def test_sessions_are_counted_by_their_close_code(truth):
    counted = Counter(a.status for a in truth.load.sessions)
    wanted = {own or asked or GONE for asked, own in SESSIONS}
    assert set(counted) == wanted == set(SESSION_CODES.values())
    query = 'sum by (method, status_code) (ray_serve_num_http_requests_total{application="sessions", method!="GET"})'
    found = truth.prometheus.query(query)
    assert {s["metric"]["method"] for s in found} <= {"WS", "WEBSOCKET"}
    said: Counter[int] = Counter()
    for one in found:
        code = int(one["metric"]["status_code"])
        said[GONE if code in (1005, 1006) else code] += int(float(one["value"][1]))
    for name, code in SESSION_CODES.items():
        truth.add("counters after the load", f"WebSocket {name}", counted[code], said[code], ".0f")
    assert said == counted
    drawn = {
        labels["status_code"] for labels, _ in truth.series(OVERVIEW, "WebSocket sessions ended", truth.steady, TALKING)
    }
    assert {"1000", "1001", "1011", "4001"} < drawn


def test_a_session_that_failed_is_an_error_and_one_that_ended_is_none(truth):
    """A broken stream has the status that was sent before it broke; Ray 2.54 counts it as an error."""
    failed_sessions = sum(a.status == 1011 for a in truth.load.sessions)
    streams = len(truth.load.broken_streams)
    failed = failed_sessions + (streams if truth.code_of_broken_streams == "500" else 0)
    wanted = {
        ("errors", "availability"): failed,
        ("requests", "availability"): len(truth.load.sessions) + streams,
        ("errors", "latency"): 0,
        ("requests", "latency"): streams,  # the length of a session is no latency
    }

    def said() -> dict[tuple[str, str], int]:
        result = {}
        for what, sli in wanted:
            found = truth.prometheus.query(f'serve_slo:{what}:events1h{{slo="sessions", sli="{sli}"}}')
            result[what, sli] = round(float(found[0]["value"][1])) if found else -1
        return result

    # The counts are recorded once a minute.
    wait_for(lambda: said() == wanted, 90, lambda: f"{said()} for {wanted}")
    truth.add("SLO", "sessions, failed", failed, said()["errors", "availability"], ".0f")


def test_a_long_session_does_not_make_an_application_slow(truth):
    p95 = truth.one(OVERVIEW, "Latency p95 by application", truth.steady, TALKING, application="sessions")
    assert all(value <= 1000 for _, value in p95), p95
    length = truth.one(OVERVIEW, "WebSocket session length", truth.steady, TALKING, 0, application="sessions")
    shown = mean(v for _, v in length)
    bucket = "bucket 2000 to 5000 ms"
    truth.rows.append(Row("WebSocket session length", "p50", f"{1000 * SESSION_S} ms", f"{shown:.0f} ms", bucket))
    assert all(2000 < value <= 5000 for _, value in length), length


def test_streams_that_break_after_their_first_byte_are_failed_calls(truth):
    streams = len(truth.load.broken_streams)
    assert streams == len(range(0, truth_load.SESSIONS_BEGUN, len(SESSIONS)))
    assert {a.status for a in truth.load.broken_streams} == {200}
    found = truth.prometheus.query('ray_serve_num_http_requests_total{application="sessions", method="GET"}')
    assert {s["metric"]["status_code"]: float(s["value"][1]) for s in found} == {truth.code_of_broken_streams: streams}
    whole = Window(truth.load.started - 30, time.time())
    points = truth.one(OVERVIEW, "Failed calls", whole, TALKING, deployment=TALK)
    truth.add("Failed calls", f"{TALK}, broken streams", streams, sum(v for _, v in points), ".0f")
    assert sum(v for _, v in points) == streams


@pytest.mark.parametrize("title", ["CPU", "Memory"])
def test_processes_stand_under_the_names_that_people_gave(truth, title):
    drawn = {
        application: {
            labels["deployment"]
            for labels, _ in truth.series(DEPLOYMENT, title, truth.steady, {"application": [application]})
        }
        for application in ("truth", "sessions")
    }
    # Before 2.60 Ray has no memory in bytes, and the panel is empty.
    there = title == "CPU" or not older(truth.ray_version, "2.60")
    assert drawn == ({"truth": {"Front", WORKER}, "sessions": {TALK}} if there else {"truth": set(), "sessions": set()})
    for deployment in (WORKER, TALK) if there else ():
        (found,) = truth.series(DEPLOYMENT, title, truth.steady, {"deployment": [deployment]})
        assert found[0]["deployment"] == deployment


def test_queue_in_flight_and_replicas_while_requests_are_held(truth):
    window = truth.holding
    waiting = [a for a in truth.load.held if a.path.startswith("/held/hold")]
    turned_away = sum(a.status == 503 for a in waiting)
    accepted = len(waiting) - turned_away
    assert accepted == 1 + HOLD_CALLERS * HOLD_QUEUE  # one at work, and each caller's queue full

    def check(figure: str, client: float, title: str, deployment: str, ref: int = 0, climbs: bool = False) -> None:
        points = truth.one(DEPLOYMENT, title, window, {"application": ["held"], "deployment": [deployment]}, ref)
        values = [v for _, v in points]
        assert len(values) >= 4
        if climbs:  # how long a replica takes to start is the machine's affair
            assert client in values[:-1], f"{title}, {figure}: {points}"
            values = values[values.index(client) :]
        truth.add(title, figure, client, mean(values), "g")
        assert set(values) == {client}, f"{title}, {figure}: {points}"

    check("Held, two full queues", accepted - 1, "Queued requests", "Held")
    check("Held, one caller", HOLD_QUEUE, "Longest queue of a single caller", "Held")
    check("Held, hanging for 60 s", 1, "Executing", "Held")
    check("Grow, hanging for 60 s", 3, "Executing", "Grow")
    check("Grow, healthy after the scale-up", 3, "Target and healthy replicas", "Grow", climbs=True)
    check("Grow, wanted after the scale-up", 3, "Target and healthy replicas", "Grow", 1, climbs=True)


def test_requests_turned_away_are_counted(truth):
    turned_away = sum(a.status == 503 for a in truth.load.held)
    found = truth.prometheus.query('sum(ray_serve_num_http_requests_total{application="held", status_code="503"})')
    said = float(found[0]["value"][1])
    truth.add("counters after the load", "/held/hold 503 (queue full)", turned_away, said, ".0f")
    assert said == turned_away > 0


def test_starts_after_a_kill_and_a_scale_up(truth):
    window = Window(truth.load.hold_started - 15, truth.load.hold_ended + 30)
    assert [a.status for a in truth.load.held if a.path == "/held/die"] == [500]
    for deployment, starts, why in (("Mortal", 1, "one replica killed"), ("Grow", 2, "scaled from 1 to 3")):
        points = truth.one(OVERVIEW, "Replica starts", window, {"application": ["held"]}, deployment=deployment)
        truth.add("Replica starts", f"{deployment}, {why}", starts, sum(v for _, v in points), "g")
        assert sum(v for _, v in points) == starts


# Rates, ratios and quantiles: on a steady load their averages are the same. A gauge that jumps between two scrapes is
# averaged by the recorded variant and sampled by the plain one, so the two differ by what it does in between.
STEADY_PANELS = {
    OVERVIEW: (
        "Requests",
        "Error ratio",
        "Back-pressure",
        "Latency p95",
        "Requests by outcome",
        "Requests by application",
        "Error ratio by application",
        "Latency",
        "Latency p95 by application",
        "Non-success responses by status code",
    ),
    DEPLOYMENT: (
        "Calls",
        "Error ratio",
        "Processing time p95",
        "Calls by outcome",
        "Calls by deployment",
        "Error ratio by deployment",
        "Processing time",
        "Processing time p95 by deployment",
    ),
}


def test_recorded_panels_say_what_plain_ones_say(truth):
    """On the live series of the steady load; a recorded figure is that of its rule's last run."""
    apart = {}
    compared = 0
    for board in all_dashboards(SETTINGS):
        for panel in board.panels:
            if panel.title not in STEADY_PANELS.get(board.uid, ()):
                continue
            for ref in range(len(panel.queries)):
                plain, recorded = (
                    truth.series(board.uid, panel.title, truth.steady, TRUTH, ref, recorded=which)
                    for which in (False, True)
                )
                now = means(recorded, truth.steady, 0)
                aged = [means(plain, truth.steady, age) for age in range(0, RECORDED_AGE_S + 1, 5)]
                compared += len(aged[0])
                for labels in aged[0]:
                    values = [by_labels[labels] for by_labels in aged]
                    low, high = (1 - WITHIN) * min(values), (1 + WITHIN) * max(values)
                    if labels not in now or not low <= now[labels] <= high:
                        where = f"{board.uid} / {panel.title} / {ref} {dict(labels)}"
                        apart[where] = (now.get(labels), low, high)
    assert compared > 30
    assert apart == {}


def means(
    found: list[tuple[dict[str, str], Points]], window: Window, age: float
) -> dict[frozenset[tuple[str, str]], float]:
    """Each series' mean over the window, but for what `age` seconds may move, as it was `age` seconds before."""
    start, end = window.start + RECORDED_AGE_S - age, window.end - age
    return {
        frozenset(metric.items()): mean(v for t, v in points if start <= t <= end)
        for metric, points in found
        if not any(v != v for _, v in points)
    }
