"""Asking a world: its alerts by promtool's unit tests, its alerts and panels on a real store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.generate import rule_files
from servescope.grafana.templating import Interpolation
from servescope.promql.durations import milliseconds
from servescope.report.queries import Window, ask, panels_of, select_variables
from servescope.rules import prometheus as prometheus_rules
from servescope.rules import recording
from servescope.rules.promtool import WATCHDOG, evaluation_order
from servescope.rules.slo.objectives import Slo
from servescope.settings import Settings
from tests.support import promtool
from tests.worlds.language import SCRAPE_S, World, promtool_input

SLOS = [
    Slo(name="shop", application="shop", availability=0.99, latency_objective=0.9, latency_ms=5000),
    Slo(name="front", application="shop", deployment="Front", availability=0.99),
]
BOARDS = ("servescope-overview", "servescope-deployment")
FIGURES_OF_NOW = {
    (board.uid, panel.title)
    for board in all_dashboards(Settings())
    if board.uid in BOARDS
    for panel in board.panels
    if panel.type == "stat"
}
RULE_FILES = ("servescope-alerts.yml", "servescope-recording.yml", "servescope-slo.yml")
STEP_S = 60
PLAIN = "plain"


def documents(settings: Settings) -> list[dict[str, Any]]:
    """The rule files, read."""
    return [yaml.safe_load(text) for text in _rules(settings).values()]


def _rules(settings: Settings) -> dict[str, str]:
    files = rule_files(settings, SLOS)
    return {name: files[Path(name)] for name in RULE_FILES}


def fired_expression(world: World, but: Iterable[str]) -> str:
    """The names of all alerts that fired at any time, without those named."""
    left_out = "|".join(sorted({WATCHDOG, *but}))
    selector = f'ALERTS{{alertstate="firing", form="", alertname!~"{left_out}"}}'
    return f"group by (alertname) (last_over_time({selector}[{int(world.minutes) + 1}m]))"


def differences(at: str) -> Iterator[str]:
    """What is pending or firing in one form of the alerts and not in the other, at any minute.

    vmalert adds the group's name, which differs.
    """
    forms = [f'ALERTS{{form="{form}", alertname!~"{WATCHDOG}|RayServeErrorBudgetBurn"}}' for form in ("", PLAIN)]
    for one, other in (forms, reversed(forms)):
        yield f"count_over_time(({one} unless ignoring (form, alertgroup) {other})[{at}:1m])"


def plain_rules(settings: Settings) -> dict[str, Any]:
    """The plain alerts, told from the recorded ones by a label; without texts, which would take time."""
    document = prometheus_rules.document(settings, recorded=False)
    for group in document["groups"]:
        group["name"] += f".{PLAIN}"
        for rule in group["rules"]:
            rule["labels"] |= {"form": PLAIN}
            del rule["annotations"]
    return document


def promtool_test(world: World) -> dict[str, Any]:
    """One of promtool's unit tests: exactly what must fire has fired, whatever may; figures; counts within bounds."""
    at = f"{int(world.minutes)}m"
    fired = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(world.must)]
    negative = f"min_over_time(serve_slo:errors:events1m[{at}]) < 0"
    too_many = f"max_over_time((serve_slo:errors:events1m > serve_slo:requests:events1m)[{at}:1m])"
    expressions = [
        {"expr": fired_expression(world, world.may - world.must), "eval_time": at, "exp_samples": fired},
        *({"expr": expr, "eval_time": at, "exp_samples": []} for expr in (negative, too_many, *differences(at))),
    ]
    for expr, value in world.figures.items():
        # Rounded, and without labels: a figure is one number.
        samples = [] if value is None else [{"labels": "{}", "value": value}]
        expressions.append({"expr": f"round(sum({expr}), 0.001)", "eval_time": at, "exp_samples": samples})
    return {
        "name": world.name,
        "interval": f"{SCRAPE_S}s",
        "input_series": promtool_input(world.series),
        "promql_expr_test": expressions,
    }


def run_promtool(worlds: Iterable[World], folder: Path, settings: Settings) -> str:
    """What promtool says of worlds that share settings; "" where all is as it must be."""
    for name, text in _rules(settings).items():
        (folder / name).write_text(text)
    plain = plain_rules(settings)
    (folder / "plain.yml").write_text(yaml.safe_dump(plain, width=10_000))
    recorded_first = [group["name"] for rules in (recording.document(settings), plain) for group in rules["groups"]]
    document = {
        "rule_files": ["plain.yml", *RULE_FILES],
        "evaluation_interval": "1m",
        "group_eval_order": [*recorded_first, *evaluation_order(settings)],
        "tests": [promtool_test(world) for world in worlds],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(document, width=10_000))
    result = promtool.run("test", "rules", folder / "test.yml")
    return "" if result.returncode == 0 else result.stdout + result.stderr


def fired(prometheus: Prometheus, world: World, start: int) -> set[str]:
    """The alerts that a store's figures make fire at any time of a world, `for` counted as Prometheus counts it."""
    names = set()
    for group in prometheus_rules.document(world.settings, recorded=False)["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == WATCHDOG:
                continue
            matrix = prometheus.query_range(
                rule["expr"], start=start, end=start + int(world.minutes) * 60, step_s=STEP_S
            )
            held_s = milliseconds(rule.get("for", "0s")) / 1000
            if any(_longest(float(at) for at, _ in series["values"]) >= held_s for series in matrix):
                names.add(rule["alert"])
    return names


def _longest(times: Iterable[float]) -> float:
    """The longest time without a gap, seconds."""
    longest = 0.0
    began = last = None
    for at in times:
        if last is None or at - last > STEP_S:
            began = at
        last = at
        longest = max(longest, at - (began or at))
    return longest


def shown(prometheus: Prometheus, world: World, start: int) -> Mapping[tuple[str, str], tuple[float, ...]]:
    """The last values of the first query of every panel of the overview and the deployment dashboard, with All chosen.

    Raises:
        ServescopeError: a query is refused.
    """
    end = start + int(world.minutes) * 60
    window = Window(end - 1800, end, step_s=STEP_S)
    found = {}
    for board in all_dashboards(world.settings):
        if board.uid not in BOARDS:
            continue
        document = board.to_json()
        scope = Interpolation(select_variables(document, prometheus, window), window.macros())
        for panel in panels_of(document):
            answers = ask(panel, prometheus, window=window, scope=scope)
            if answers:
                last = (series.points[-1] for series in answers[0].series if series.points)
                found[board.uid, panel["title"]] = tuple(sorted(value for at, value in last if at == end))
    return found
