"""What tracing costs a deployment that does nothing, in each of three ways, and what an outage of the Collector costs.

    python -m tests.bench.tracing

One Ray for each way stands there all the time, idle while another one is measured, so that the ways are compared
within a minute of each other: each round measures all of them, in an order of its own. PORT_BASE moves the ports.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from demo.stack import component, supervisor
from demo.stack.components.applications import applications
from demo.stack.components.ray import ray
from demo.stack.ports import Ports
from demo.stack.run import Run
from demo.stack.supervisor import Stack
from servescope.errors import ServescopeError
from tests.bench import sections
from tests.bench.http_load import Load, LoadClient
from tests.bench.intervals import Median, median, pooled_change
from tests.live.collector import Collector

CONFIG = Path(__file__).parent / "noop_config.yaml"
PORTS = 25_000
PORTS_OF_A_RAY = 180
STARTING_AT_ONCE = 2
ROUNDS = int(os.environ.get("BENCH_ROUNDS") or 30)  # fewer do not decide a difference of p99
AT_ONCE = 8
WARM_S, WINDOW_S = 0.7, 4.0
# The Collector is through when it used less than this share of a core for so long: longer than it waits for the rest of
# a trace.
IDLE_S, IDLE_SHARE = 1.2, 0.05
BEFORE_S, OUTAGE_S = 30, 60


@dataclass(frozen=True, eq=False)
class Way:
    """A way to trace, by the environment of Ray."""

    name: str
    env: dict[str, str]


HOOK, RATIO = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO"
SERVE_EXPORTER = {HOOK: "ray.serve._private.tracing_utils:default_tracing_exporter"}
OURS = {HOOK: "servescope.tracing:otlp"}
OFF = Way("off", {})
SERVE_ALL = Way("Serve's exporter, all recorded", SERVE_EXPORTER | {RATIO: "1"})
OURS_ALL = Way("servescope, all recorded (as shipped)", OURS)
WAYS = (OFF, SERVE_ALL, OURS_ALL)
PAIRS = ((OURS_ALL, SERVE_ALL), (OURS_ALL, OFF), (SERVE_ALL, OFF))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one way cost in one round. The CPU is that of a request; the Collector's is not in Serve's."""

    per_second: float
    p50_ms: float
    p99_ms: float
    single_s: list[float]  # the latencies of all requests of the one-at-a-time window
    serve_cpu_ms: float
    collector_cpu_ms: float


@dataclass(frozen=True)
class Measure:
    """A column of the tables."""

    title: str
    form: str
    of: Callable[[Sample], float]


THROUGHPUT = Measure(f"requests/s, {AT_ONCE} concurrent", ".0f", lambda sample: sample.per_second)
CPU = Measure("CPU per request, proxy and replica (ms)", ".2f", lambda sample: sample.serve_cpu_ms)
P50 = Measure("p50, one at a time (ms)", ".2f", lambda sample: sample.p50_ms)
P99 = Measure("p99, one at a time (ms)", ".2f", lambda sample: sample.p99_ms)
MEASURES = (THROUGHPUT, CPU, P50, P99)
COLLECTOR_CPU = Measure("CPU per request, Collector (ms)", ".2f", lambda sample: sample.collector_cpu_ms)


class Place:
    """The Ray Serve of one way, and what has been asked of it."""

    def __init__(self, started: Stack) -> None:
        self.requests = 0
        self.spans_sent = 0
        self._written_before = 0
        self._run = started.run
        self._actors = [
            process
            for leader in started.processes()
            for process in leader.children(recursive=True)
            if re.match(r"ray::(ProxyActor|ServeReplica)", " ".join(process.cmdline()))
        ]
        assert len(self._actors) == 2, self._actors

    def ask(self, client: LoadClient, at_once: int, seconds: float) -> Load:
        """Some seconds of load."""
        load = client.run(self._run.ports.serve, at_once, seconds)
        self.requests += len(load.latencies_s)
        return load

    def cpu_s(self) -> float:
        """What proxy and replica have used."""
        return sum(_cpu_s(process) for process in self._actors)

    def count_from_here(self) -> None:
        """Leave out of the counts what was asked so far."""
        self.requests = 0
        self._written_before = self._written()

    def spans_of_a_request(self) -> float:
        """How many spans of each request went to the Collector, or into the files of Serve's exporter."""
        return (self.spans_sent + self._written() - self._written_before) / self.requests

    def _written(self) -> int:
        files = (self._run.temp_dir / "session_latest/logs/serve/spans").glob("*_tracing.json")
        return sum(file.read_text().count('"trace_state"') for file in files)


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


def _accepted(collector: Collector) -> int:
    """How many spans the Collector has taken."""
    found = re.findall(r"^otelcol_receiver_accepted_spans(?:_total)?\{.*\} (\S+)$", collector.own(), re.MULTILINE)
    return int(sum(map(float, found)))


def _await_idle(process: psutil.Process) -> None:
    """What the Collector still has to do for one way must not cost the next one."""
    deadline = time.monotonic() + 30
    used, share = _cpu_s(process), 1.0
    while share > IDLE_SHARE:
        if time.monotonic() > deadline:
            raise ServescopeError(f"the Collector does not come to rest; it uses {share:.0%} of a core")
        time.sleep(IDLE_S)
        before, used = used, _cpu_s(process)
        share = (used - before) / IDLE_S


def measure(place: Place, client: LoadClient, collector: Collector) -> Sample:
    """One way, once: warm up, many at once, then one after the other, until the Collector is through."""
    process = psutil.Process(collector.pid)
    sent = _accepted(collector)
    place.ask(client, AT_ONCE, WARM_S)
    begun = place.cpu_s(), _cpu_s(process)
    many = place.ask(client, AT_ONCE, WINDOW_S)
    ended = place.cpu_s(), _cpu_s(process)
    single = place.ask(client, 1, WINDOW_S)
    _await_idle(process)
    place.spans_sent += _accepted(collector) - sent
    number = len(many.latencies_s)
    serve_ms, collector_ms = (1000 * (after - before) / number for before, after in zip(begun, ended, strict=True))
    return Sample(
        per_second=many.per_second,
        p50_ms=single.quantile_ms(50),
        p99_ms=single.quantile_ms(99),
        single_s=single.latencies_s,
        serve_cpu_ms=serve_ms,
        collector_cpu_ms=collector_ms,
    )


def rounds(places: dict[Way, Place], client: LoadClient, collector: Collector) -> dict[Way, list[Sample]]:
    """Every way in every round, in an order of its own each time."""
    chance = random.Random(5)
    found: dict[Way, list[Sample]] = {way: [] for way in places}
    for number in range(ROUNDS):
        for way in chance.sample(WAYS, len(WAYS)):
            sample = measure(places[way], client, collector)
            found[way].append(sample)
            told = ", ".join(f"{m.of(sample):{m.form}} {m.title}" for m in (*MEASURES, COLLECTOR_CPU))
            print(f"round {number + 1} of {ROUNDS}, {way.name}: {told}", flush=True)
    return found


def outage(place: Place, client: LoadClient, collector: Collector) -> dict[str, list[Load]]:
    """One request after the other, first with the Collector there, then for a minute after SIGKILL."""
    found = {}
    for name, seconds in (("running", BEFORE_S), ("killed", OUTAGE_S)):
        if name == "killed":
            collector.stop(signal.SIGKILL)
        end = time.monotonic() + seconds
        found[name] = []
        while time.monotonic() < end:
            found[name].append(place.ask(client, 1, WINDOW_S))
        print(f"Collector {name}: {len(found[name])} times {WINDOW_S:g} s", flush=True)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What is said of it


def change(found: dict[Way, list[Sample]], pair: tuple[Way, Way], of: Callable[[Sample], float]) -> Median:
    """By what share the first is above the second, round by round."""
    first, second = (found[way] for way in pair)
    return median([of(a) / of(b) - 1 for a, b in zip(first, second, strict=True)])


def pooled(found: dict[Way, list[Sample]], pair: tuple[Way, Way]) -> Median:
    """By what share the p99 of all requests of all rounds is higher in the first."""
    first, second = ([sample.single_s for sample in found[way]] for way in pair)
    return pooled_change(first, second, 99)


def verdict(cost: Median, limit: float) -> str:
    """Whether a cost is within its limit; what lies on both sides of it, this run does not tell apart."""
    if cost.high <= limit:
        return "met"
    return "not met" if cost.low > limit else f"no difference found, {cost.shown('+.1%')}"


def costs(found: dict[Way, list[Sample]], pair: tuple[Way, Way]) -> dict[Measure, Median]:
    """By how much worse the first of a pair is: of a throughput, how much more time each request took."""
    return {
        THROUGHPUT: change(found, pair, lambda sample: 1 / sample.per_second),
        **{of: change(found, pair, of.of) for of in (CPU, P50, P99)},
    }


def verdicts(found: dict[Way, list[Sample]], pair: tuple[Way, Way], limit: float) -> str:
    """One line: each measure with its verdict."""
    return "; ".join(f"{of.title}: {verdict(cost, limit)}" for of, cost in costs(found, pair).items())


def section(
    about: str, found: dict[Way, list[Sample]], *, recorded: dict[Way, float], away: dict[str, list[Load]]
) -> str:
    """The section of docs/benchmarks.md."""
    ways = sections.table(
        ("", *(of.title for of in (*MEASURES, COLLECTOR_CPU)), "spans per request"),
        [
            (
                way.name,
                *(median([of.of(sample) for sample in found[way]]).shown(of.form) for of in (*MEASURES, COLLECTOR_CPU)),
                f"{spans:.2f}",
            )
            for way, spans in recorded.items()
        ],
    )
    pairs = sections.table(
        ("", *(of.title for of in MEASURES)),
        [
            (f"{a.name}, compared with: {b.name}", *(change(found, (a, b), of.of).shown("+.1%") for of in MEASURES))
            for a, b in PAIRS
        ],
    )
    tails = [
        f"{first.name}, compared with {second.name}: {pooled(found, (first, second)).shown('+.1%')}"
        for first, second in PAIRS
    ]
    outages = sections.table(
        ("Collector", "p50 (ms)", "p99 (ms)", "max (ms)", "requests"),
        [
            (
                name,
                median([load.quantile_ms(50) for load in loads]).shown(".2f"),
                median([load.quantile_ms(99) for load in loads]).shown(".2f"),
                f"{1000 * max(max(load.latencies_s) for load in loads):.1f}",
                f"{sum(len(load.latencies_s) for load in loads):,}",
            )
            for name, loads in away.items()
        ],
    )
    return f"""## Tracing

A no-op deployment behind one proxy. One Ray per variant runs all the time, and each of {ROUNDS} rounds measures all
of them in random order: {WINDOW_S:g} s with {AT_ONCE} concurrent requests, then {WINDOW_S:g} s with one at a time. The
load client and the Collector (the default configuration: it samples 10 %; decisions after 1 s, traces into files) run
on the same cores, the Collector at nice 19, below Ray's workers, as `make demo` runs it. Medians, with the 95 %
confidence interval of the sign test.

{about}

{ways}

Change from the second variant to the first, round by round:

{pairs}

p99 of all one-at-a-time requests of all {ROUNDS} rounds, from the second variant to the first, with the 95 % interval
of a bootstrap over rounds: {"; ".join(tails)}.

Target: servescope as shipped costs at most as much as Serve's own exporter when both record everything.
{verdicts(found, (OURS_ALL, SERVE_ALL), 0)}.

The Collector killed with SIGKILL for {OUTAGE_S} s, servescope as shipped, one request at a time in windows of
{WINDOW_S:g} s; every request was answered:

{outages}
"""


def main() -> None:
    """Measure, and write the section."""
    if component.find("otelcol") is None:
        raise ServescopeError("no Collector: make tools builds it where Go 1.21 is installed")
    base = int(os.environ.get("PORT_BASE") or PORTS)
    about = sections.machine(("servescope", "ray", "opentelemetry-sdk"))
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="servescope-bench-")))
        ports = Ports.from_base(base + PORTS_OF_A_RAY * len(WAYS))
        env = {"SAMPLE_PERCENT": "10", "DECISION_WAIT": "1s"}
        collector = running.enter_context(Collector(folder / "collector", ports.otlp_grpc, env))
        places = start(folder, running, base=base, otlp=collector.otlp)
        client = running.enter_context(LoadClient())
        for place in places.values():
            place.ask(client, AT_ONCE, 3 * WARM_S)
            _await_idle(psutil.Process(collector.pid))
            place.count_from_here()
        found = rounds(places, client, collector)
        recorded = {way: place.spans_of_a_request() for way, place in places.items()}
        text = section(about, found, recorded=recorded, away=outage(places[OURS_ALL], client, collector))
        sections.write("tracing", text)
        print(text)


def start(folder: Path, running: ExitStack, *, base: int, otlp: str) -> dict[Way, Place]:
    """A Ray for each way, some at a time: for the most part a start is waiting."""
    stacks = {}
    for number, way in enumerate(WAYS):
        run = _run(folder / str(number), way, base=base + PORTS_OF_A_RAY * number, otlp=otlp)
        stacks[way] = Stack(run, [ray, applications])
    running.callback(_stop, list(stacks.values()))
    print(f"starting {len(stacks)} Rays", flush=True)
    with ThreadPoolExecutor(STARTING_AT_ONCE) as pool:
        started = list(pool.map(Stack.__enter__, stacks.values()))
    return {way: Place(one) for way, one in zip(stacks, started, strict=True)}


def _stop(stacks: list[Stack]) -> None:
    with supervisor.uninterrupted(), ThreadPoolExecutor(len(stacks)) as pool:
        list(pool.map(Stack.stop, stacks))
    for stopped in stacks:
        shutil.rmtree(stopped.run.temp_dir, ignore_errors=True)  # Serve's exporter has written there, and much


def _run(folder: Path, way: Way, *, base: int, otlp: str) -> Run:
    p = Ports.from_base(base)
    return Run(
        directory=folder,
        ports=Ports(**{**vars(p), "worker_max": base + PORTS_OF_A_RAY - 1}),
        serve_config=CONFIG,
        env=way.env | {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp},
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what runs here, as Ctrl-C does
    try:
        main()
    except ServescopeError as error:
        sys.exit(f"bench: {error}")
