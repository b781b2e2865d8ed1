"""A Prometheus that holds some time of a Serve cluster of any size, with what our recording rules say of it.

The blocks stay in .bench, by size and by what they are made of, so that a second run asks the same data: delete the
folder to make them anew. tests/bench/blocks writes them (`make tools` builds it where Go is installed), or promtool
from text, for a size that has few series: at 100 deployments, the text of an hour would have 15 GB.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from servescope.errors import ServescopeError
from servescope.promql.durations import milliseconds
from tests.bench import serve_series
from tests.bench.asking import Server
from tests.bench.serve_series import Row, ServeCluster
from tests.support.backfilled_prometheus import BackfilledPrometheus

CACHE = Path(".bench")
BLOCKS = Path(".tools/bench-blocks")
PROMETHEUS3 = Path(".tools/prometheus3")
START = 1_760_400_000  # unix seconds; any time will do
RECORDED_AFTER_S = 9  # a rule is evaluated between two scrapes
_MOVES = re.compile("rate|events|latency")  # what changes from one evaluation to the next

Rules = Sequence[Mapping[str, Any]]  # the documents of rule files, as Prometheus reads them


@dataclass(frozen=True)
class Fleet:
    """A cluster, how long it was scraped, and whether promtool makes its blocks of text."""

    cluster: ServeCluster
    seconds: int
    by_text: bool = False

    @property
    def name(self) -> str:
        """For tables: deployments x replicas."""
        return f"{self.cluster.deployments:,} x {self.cluster.replicas}"

    @property
    def end(self) -> int:
        """Unix seconds at which everything is asked: on a whole minute, as Grafana asks, after the last scrape."""
        return START + self.seconds

    @contextmanager
    def server(self, rules: Rules = (), *, program: str = "prometheus") -> Iterator[Server]:
        """A Prometheus over the cluster's series, and over what the recording rules among `rules` give of them."""
        with serving(*self._blocks(rules, program), program=program) as server:
            yield server

    def _blocks(self, rules: Rules, program: str) -> list[Path]:
        """The folders with the blocks, made if they are not there."""
        if not rules:
            return [self._cached("plain", lambda: self._write(self.cluster.rows()))]
        name = f"recorded-{_digest(json.dumps(_recording(rules)))}"
        if self.by_text:
            records = self._cached(name, lambda: self._write(self._all_records(rules, program)))
            return [*self._blocks((), program), records]
        # One block: of two that overlap, Prometheus would make one while it is asked.
        return [self._cached(name, lambda: self._write(self._with_records(rules, program)))]

    def _cached(self, name: str, make: Callable[[], AbstractContextManager[Path]]) -> Path:
        """A folder of .bench, made anew where it is missing."""
        size = f"{self.cluster.deployments}x{self.cluster.replicas}-{self.seconds // 60}m"
        way = "-text" if self.by_text else ""
        folder = CACHE / f"{size}{way}-{name}-{_digest(Path(serve_series.__file__).read_text())}"
        if not folder.exists():
            with make() as made:
                if not folder.exists():  # another run may have been faster
                    made.rename(folder)
        return folder

    @contextmanager
    def _write(self, rows: Iterable[Row]) -> Iterator[Path]:
        """A folder of blocks with these rows, for as long as the `with` lasts."""
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="making-") as scratch:
            if self.by_text:
                BackfilledPrometheus(Path(scratch)).backfill(_openmetrics(rows, self.seconds))
            else:
                write_blocks(Path(scratch, "data"), rows, self.end)
            yield Path(scratch, "data")

    def _with_records(self, rules: Rules, program: str) -> Iterator[Row]:
        """The cluster's rows and those of the records."""
        records = self._all_records(rules, program)
        yield from self.cluster.rows()
        yield from records

    def _all_records(self, rules: Rules, program: str) -> list[Row]:
        """The records' rows. What a rule gives at the end is held over the whole time: as many series and samples as a
        Prometheus would have recorded. Records that read records come after them."""
        known: list[Row] = []
        for level in _levels(_recording(rules)):
            known += self._records(level, known, program)
        return known

    def _records(self, level: Rules, known: Sequence[Row], program: str) -> list[Row]:
        with ExitStack() as stack:
            folders = self._blocks((), program)
            if known:
                folders.append(stack.enter_context(self._write(known)))
            server = stack.enter_context(serving(*folders, program=program))
            return [row for rule in level for row in self._recorded(rule, server)]

    def _recorded(self, rule: Mapping[str, Any], server: Server) -> Iterator[Row]:
        answer = server.at(rule["expr"], self.end)
        if answer.error:
            raise ServescopeError(f"{rule['record']} of {self.name}: {answer.error}")
        for labels, value in answer.last:
            moves = 0.05 * value if _MOVES.search(rule["record"]) else 0
            named = {**labels, **rule.get("labels", {}), "__name__": rule["record"]}
            yield Row("g", value, moves, named, rule["interval_s"], RECORDED_AFTER_S)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_blocks(folder: Path, rows: Iterable[Row], end: int) -> None:
    if not BLOCKS.exists():
        raise ServescopeError(f"{BLOCKS} is missing: make tools builds it where Go is installed")
    command = [str(BLOCKS), "-out", str(folder), "-start", str(START), "-end", str(end)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdin
        process.stdin.writelines(row.line for row in rows)
        process.stdin.close()
    if process.returncode:
        raise ServescopeError(f"{BLOCKS} could not write {folder}")


def _recording(rules: Rules) -> list[dict[str, Any]]:
    """Every recording rule, with its group's interval."""
    return [
        {**rule, "interval_s": seconds(group)}
        for document in rules
        for group in document["groups"]
        for rule in group["rules"]
        if "record" in rule
    ]


def seconds(group: Mapping[str, Any]) -> int:
    """The interval of a rule group."""
    return round(milliseconds(group.get("interval", "15s")) / 1000)


def _levels(rules: Rules) -> Iterator[Rules]:
    """Recording rules in the order in which they can be evaluated: first those that read no record, and so on."""
    left = list(rules)
    while left:
        names = {rule["record"] for rule in left}
        now = [rule for rule in left if not names & set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", rule["expr"]))]
        if not now:
            raise ServescopeError(f"these records read each other: {', '.join(sorted(names))}")
        yield now
        left = [rule for rule in left if rule not in now]


def _openmetrics(rows: Iterable[Row], length_s: int) -> Iterator[str]:
    """The rows as text; a family's series must stand together."""
    for number, row in enumerate(sorted(rows, key=lambda row: row.labels["__name__"])):
        labels = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in row.labels.items() if k != "__name__")
        head = f"{row.labels['__name__']}{{{labels}}}"
        phase = number % serve_series.PHASES
        times = range(row.delay_s, length_s + 1, row.interval_s)
        yield "".join(f"{head} {row.value(at, phase):.12g} {START + at}\n" for at in times)
    yield "# EOF\n"


@contextmanager
def serving(*blocks: Path, program: str) -> Iterator[Server]:
    """A server over hard links, since it would compact what it holds."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="serving-") as scratch:
        for folder in blocks:
            shutil.copytree(folder, Path(scratch, "data"), copy_function=os.link, dirs_exist_ok=True)
        backfilled = BackfilledPrometheus(Path(scratch), program=program)
        with backfilled.server() as url, Server(url, _process(scratch)) as server:
            yield server


def _process(folder: str) -> psutil.Process:
    """The server over a folder, which this process has started."""
    (found,) = (p for p in psutil.Process().children(recursive=True) if any(folder in word for word in p.cmdline()))
    return found
