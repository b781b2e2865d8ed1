"""How large and how slow a report of six hours is, and how long a page of the preview takes.

    python -m tests.bench.snapshot

What a Ray 2.60 with six deployments really answered to scrapes is multiplied to twenty deployments and written, with
six hours of changes, into the blocks of a real Prometheus, the series of the objectives included. Then the command
and the preview run over it as their user would run them. A promise that does not hold ends it with an error.
"""

from __future__ import annotations

import gzip
import html
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.exporter.state import Detail
from servescope.exporter.worker import metrics
from servescope.pages import runbooks
from servescope.report import preview
from servescope.settings import Settings
from tests.bench import sections
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.ray_rest_api import generated, nodes
from tests.support.servers import running

SCRAPES = Path("tests/fixtures/metrics")
RULES = [Path("demo/slo/servescope-slo.yml")]
DEPLOYMENTS, ALERTS = 20, 20
# Said by no query, and the same on every series: they would only make the text longer that promtool reads.
DROPPED = {"SessionName", "otel_scope_name", "otel_scope_version", "otel_scope_schema_url"}
LIKE = ("Scaler", "Gateway", "Multi", "Embedder", "Extras", "Plain")  # the deployments of the scrapes that run
NAMES = ("Recogniser", *(f"Deployment{number}" for number in range(1, DEPLOYMENTS)))
APPLICATIONS = {"main": "ocr", "app-0": "ocr", "extras": "echo"}
SCRAPE_S = 15
START = 1_760_400_000  # unix seconds; any time will do
END = START + 6 * 3600 + 600  # the first windows look back before the range
BLOCK_S = 7200  # as long as a block of Prometheus; START is where one begins
RUNS, ROUNDS = 3, 5
FIRST_ROWS = 2  # that a screen of 900 pixels shows: a page asks for the others when somebody scrolls to them
MOST_BYTES, MOST_S, MOST_PAGE_S = 10_000_000, 20.0, 2.0
STANDING = re.compile("^servescope|status|healthy|max_|min_|target_|count$|model_id")  # gauges that are no measurement


@dataclass
class Metric:
    """The samples of one name: labels and value at the scrape."""

    counts: bool  # whether it only grows
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Seconds until a page stood with as many rows as the first screen shows, and with all of them."""

    first: float
    whole: float


# How each counter or histogram grows from scrape to scrape, by its labels.
Grown = dict[frozenset[tuple[str, str]], list[float]]


def _scrapes() -> Iterator[tuple[str, str]]:
    """Job and text of each scrape."""
    for path in ("node-agent-8080.prom.gz", "autoscaler-44217.prom", "dashboard-44227.prom"):
        data = (SCRAPES / path).read_bytes()
        yield "ray", (gzip.decompress(data) if path.endswith(".gz") else data).decode()
    document = json.dumps(generated(DEPLOYMENTS, 4 * DEPLOYMENTS)).encode()
    yield "servescope", metrics(document, json.dumps(nodes({"n": "spot"})).encode(), Detail()).decode()


def _read() -> set[str]:
    """Every name that a dashboard or a recording rule speaks of."""
    texts = [json.dumps(board.to_json()) for board in all_dashboards(Settings())]
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", " ".join([*texts, *(path.read_text() for path in RULES)])))


def scraped() -> dict[str, Metric]:
    """What is read of the scrapes, with as many deployments as were promised."""
    wanted = _read()
    found: dict[str, Metric] = {}
    for job, text in _scrapes():
        where = {"job": job, "instance": "192.0.2.2:8080", "ray_io_cluster": "bench"}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name not in wanted:
                    continue
                metric = found.setdefault(sample.name, Metric(family.type in ("counter", "histogram")))
                labels = {k: v for k, v in sample.labels.items() if v and k not in DROPPED} | where
                metric.samples += [(one, sample.value) for one in _multiplied(labels, job)]
    return found


def _multiplied(labels: dict[str, str], job: str) -> Iterator[dict[str, str]]:
    """A series of a deployment as those of all that are like it; any other as it is. The demo's SLOs name them."""
    if "application" in labels:
        labels = labels | {"application": APPLICATIONS.get(labels["application"], labels["application"])}
    if "deployment" not in labels:
        yield labels
    elif job != "ray":
        yield labels | {"deployment": NAMES[int(labels["deployment"].removeprefix("Deployment"))]}
    elif labels["deployment"] in LIKE:
        for number in range(LIKE.index(labels["deployment"]), DEPLOYMENTS, len(LIKE)):
            own = {name: f"{labels[name]}{number}" for name in ("replica", "WorkerId", "actor_id") if name in labels}
            yield labels | own | {"application": "ocr", "deployment": NAMES[number]}


def lines(found: dict[str, Metric], chance: random.Random, grown: Grown, *, start: int, end: int) -> Iterator[str]:
    """A part of six hours in which everything changes from scrape to scrape, as OpenMetrics text."""
    times = range(start, end, SCRAPE_S)
    begun = (start - START) // SCRAPE_S
    for name, metric in found.items():
        for labels, value in metric.samples:
            series = name + "{" + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items()) + "}"
            if not metric.counts:
                held = value == 0 or STANDING.search(name)
                yield from (f"{series} {value if held else value * chance.uniform(0.7, 1.3):.6g} {t}\n" for t in times)
                continue
            # The buckets of one histogram grow at one pace, else they would contradict each other.
            key = frozenset((k, v) for k, v in labels.items() if k != "le")
            if key not in grown:
                grown[key] = _growing((END - START) // SCRAPE_S + 1, chance)
            path = grown[key][begun:]
            yield from (f"{series} {value * share:.6g} {t}\n" for share, t in zip(path, times, strict=False))
    yield from (f'up{{job="ray",instance="192.0.2.2:8080",ray_io_cluster="bench"}} 1 {t}\n' for t in times)
    names = [alert.name for group in runbooks.all_groups(Settings()) for alert in group.alerts]
    for number, name in zip(range(ALERTS), names, strict=False):
        labels = f'alertname="{name}",severity="warning",application="ocr",deployment="{NAMES[number]}"'
        begins = START + 600 * (number + 1)
        for state, first, last in (("pending", begins, begins + 300), ("firing", begins + 300, begins + 3900)):
            yield from (f'ALERTS{{{labels},alertstate="{state}"}} 1 {t}\n' for t in times if first <= t < last)
    yield "# EOF\n"


def _growing(points: int, chance: random.Random) -> list[float]:
    """A growing share of what the scrape counted, which it reaches after some ten minutes."""
    grown, pace, result = 0.0, 1.0, []
    for _ in range(points):
        pace = min(3.0, max(0.2, pace + chance.uniform(-0.1, 0.1)))
        grown += pace / 40
        result.append(grown)
    return result


def reports(url: str, folder: Path) -> list[tuple[int, float]]:
    """Bytes and seconds of the command over six hours, its start included."""
    output = folder / "report.html"
    span = ("--from", str((END - 6 * 3600) * 1000), "--to", str(END * 1000))
    command = [sys.executable, "-m", "servescope", "snapshot", "-p", url, *span, "-o", str(output)]
    result = []
    for _ in range(RUNS):
        begun = time.monotonic()
        subprocess.run(command, check=True)
        result.append((output.stat().st_size, time.monotonic() - begun))
    return result


def pages(url: str) -> dict[str, list[Page]]:
    """What each dashboard's page took over the time that it opens with. Each is asked at ends of its own, so that the
    preview has none to give again; the first round, which warms Prometheus up, is left out."""
    result: dict[str, list[Page]] = {}
    ends = (END * 1000 - 60_000 * number for number in count())
    with (
        Prometheus(url) as prometheus,
        preview.serve(prometheus, port=0, folder=None, settings=Settings()) as server,
        running(server) as address,
        httpx.Client(base_url=f"http://{address}", timeout=120) as client,
    ):
        for number in range(ROUNDS + 1):
            for board in all_dashboards(Settings()):
                length_ms = int(_opens_with(board.to_json()["time"]["from"]) * 1000)
                end = next(ends)
                begun = time.monotonic()
                page = client.get(f"/d/{board.uid}?from={end - length_ms}&to={end}").raise_for_status().text
                rows = [html.unescape(found) for found in re.findall(r'data-from="([^"]*)"', page)]
                took = []
                for row in rows:
                    client.get(row).raise_for_status()
                    took.append(time.monotonic() - begun)
                if number:
                    result.setdefault(board.uid, []).append(Page(took[min(len(took), FIRST_ROWS) - 1], took[-1]))
    return result


def _opens_with(text: str) -> float:
    """Seconds of `now-1h`; no more than the data reach."""
    amount, unit = int(text.removeprefix("now-")[:-1]), text[-1]
    return min(amount * {"m": 60, "h": 3600, "d": 86400}[unit], 6 * 3600)


def prepare(folder: Path) -> BackfilledPrometheus:
    """A Prometheus' folder with the six hours."""
    backfilled = BackfilledPrometheus(folder)
    found, chance, grown = scraped(), random.Random(9), Grown()
    for start in range(START, END, BLOCK_S):  # promtool reads its whole input again for each block
        backfilled.backfill(lines(found, chance, grown, start=start, end=min(start + BLOCK_S, END)))
    backfilled.backfill_rules(RULES, START + 600, END)
    return backfilled


def measure(backfilled: BackfilledPrometheus, folder: Path) -> list[str]:
    """Measure, write the section, and return the targets that are missed."""
    about = sections.machine(("servescope", "plotly", "jinja2"))
    with backfilled.server() as url:
        with Prometheus(url) as prometheus:
            (counted,) = prometheus.query('count({__name__=~".+"})', END - SCRAPE_S)
            _, version = prometheus.program_and_version()
        made = reports(url, folder)
        asked = pages(url)
    series = int(float(counted["value"][1]))
    panels = sum(len(list(board.panels)) for board in all_dashboards(Settings()))
    report = sections.table(
        ("report of", "panels", "size (MB)", "seconds, median", "seconds, max"),
        [
            (
                "6 h, all dashboards",
                str(panels),
                f"{made[-1][0] / 1e6:.1f}",
                f"{statistics.median(s for _, s in made):.1f}",
                f"{max(s for _, s in made):.1f}",
            )
        ],
    )
    preview_pages = sections.table(
        ("page", "first screen: seconds, median", "max", "all rows: seconds, median", "max"),
        [
            (uid, *(f"{figure(part):.2f}" for part in parts for figure in (statistics.median, max)))
            for uid, took in asked.items()
            for parts in [([page.first for page in took], [page.whole for page in took])]
        ],
    )
    sections.write(
        "snapshot",
        f"""## Snapshot and preview

{DEPLOYMENTS} deployments, {series:,} series that the dashboards read, a scrape every {SCRAPE_S} s
over 6 h, the series of the objectives included, {ALERTS} alerts that fired. Targets: a report of the five main
dashboards over 6 h below {MOST_BYTES // 10**6} MB and {MOST_S:g} s on 2 cores, the first screen of a preview page
below {MOST_PAGE_S:g} s with a warm Prometheus.

{about} Prometheus {version}, on the same cores.

{report}

`servescope snapshot`, {RUNS} runs, from start to exit.

{preview_pages}

`servescope preview`, {ROUNDS} times each after one to warm up, over the dashboard's default time range, 6 h at most.
The first screen is the page with its first {FIRST_ROWS} rows; the others load when they come into view.
""",
    )
    print(report, preview_pages, sep="\n\n")
    broken = [f"a report of {size:,} bytes" for size, _ in made if size >= MOST_BYTES]
    broken += [f"a report took {took:.1f} s" for _, took in made if took >= MOST_S]
    slowest = {uid: max(page.first for page in took) for uid, took in asked.items()}
    broken += [f"{uid} took {took:.2f} s" for uid, took in slowest.items() if took >= MOST_PAGE_S]
    return broken


def main() -> None:
    """Measure, and fail if a target is missed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if broken := measure(prepare(folder), folder):
            raise SystemExit(f"targets missed: {', '.join(broken)}")


if __name__ == "__main__":
    main()
