"""Every panel through Grafana's own code, against what must be read (must-read.yaml) and what the preview shows.

GRAFANA_LINES names the versions, 10.4 and 13.2 by default; `make test-grafana` takes all four. Of Grafana only packages
under Apache-2.0 are used: what lies in its other part is written as rules in words of our own, and marked so in node/.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from demo import ROOT
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.json_types import Json
from servescope.report import collect
from servescope.report.queries import panels_of
from tests.grafana import annotations, ask, preview, world
from tests.grafana.ask import Case
from tests.support.backfilled_prometheus import BackfilledPrometheus
from tests.support.promtool import requires_promtool

LINES = os.environ.get("GRAFANA_LINES", "10.4 13.2").split()
WITH_SCENES = [line for line in LINES if line != "10.4"]  # scenes has been under Apache-2.0 since its version 6
MUST: Json = yaml.safe_load((ROOT / "tests/grafana/must-read.yaml").read_text())
READ_SECONDS = 300


def modules(line: str) -> str:
    """The folder of a version's packages, as scripts/setup.sh grafana installs them."""
    folder = ROOT / ".tools/grafana" / line
    if shutil.which("node") is None or not (folder / "node_modules/@grafana/data").is_dir():
        pytest.skip(f"Grafana {line}'s packages are not installed (scripts/setup.sh grafana, which needs npm)")
    return str(folder)


@dataclass(frozen=True)
class Answers:
    """The cases of the plain and of the recorded dashboards, and the Prometheus that was asked."""

    plain: list[Case]
    recorded: list[Case]
    prometheus: Prometheus


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """What a real Prometheus answers over the world of world.py."""
    filled = BackfilledPrometheus(tmp_path_factory.mktemp("world"))
    filled.backfill(world.lines())
    filled.backfill_rules([ROOT / "alerts/servescope-recording.yml"], world.START + 300, world.END)
    plain, recorded = (
        [board.to_json() for board in all_dashboards(world.SETTINGS, recorded=variant)] for variant in (False, True)
    )
    with filled.server() as url, Prometheus(url) as prometheus:
        found = ask.cases(prometheus, plain)
        yield Answers(
            [*found, *ask.derived([case for case in found if case.world == "live"])],
            ask.cases(prometheus, recorded, ("live", "died")),
            prometheus,
        )


def read(line: str, cases: list[Json]) -> list[Any]:
    """What Grafana's code of one version makes of the cases."""
    command = ["node", "tests/grafana/node/read.cjs", modules(line)]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(cases), capture_output=True, text=True, timeout=READ_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["version"].startswith(f"{line}.")
    readings: list[Any] = answer["readings"]
    return readings


@pytest.fixture(scope="module", params=LINES)
def shown(request: pytest.FixtureRequest, answers: Answers) -> dict[str, tuple[Case, Any]]:
    """Every case with what a person reads of it, by dashboard, panel and world; recorded ones end in "recorded"."""
    cases = {case.name: case for case in answers.plain} | {f"{c.name} / recorded": c for c in answers.recorded}
    readings = read(request.param, [case.for_grafana() for case in cases.values()])
    return {name: (case, reading) for (name, case), reading in zip(cases.items(), readings, strict=True)}


def readings_of(shown: Mapping[str, tuple[Case, Any]], board: str, panel: str, where: str) -> list[Any]:
    """The readings of a panel in a world, of the recorded variant too where that was asked."""
    name = f"{board} / {panel} / {where}"
    return [shown[key][1] for key in (name, f"{name} / recorded") if key in shown]


def cell(reading: Mapping[str, Any]) -> str:
    """A figure or a cell of a table as the table of what must be read writes it."""
    return even(f"{reading['text']} {reading['color']}".strip())


def even(text: str) -> str:
    """A text without decimals that are zero: a sum of floats may be 9.999999999999998, which is written as 10.00."""
    return re.sub(r"(\d)\.0+(?=\D)", r"\1", text)


def differences(pairs: Iterator[tuple[str, Any, Any]]) -> dict[str, dict[str, Any]]:
    """What is not read as it must be."""
    return {what: {"must": must, "is": found} for what, must, found in pairs if must != found}


@requires_promtool
def test_figures(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for board, panels in MUST["figures"].items():
            for panel, worlds in panels.items():
                for where in ("live", "idle", "one", "died", "empty", "nan", "nothing"):
                    must = str(worlds.get("nan" if where == "nothing" else where, MUST["no_data"]))
                    for reading in readings_of(shown, board, panel, where):
                        yield f"{board} / {panel} / {where}", [even(must)], [cell(one) for one in reading]

    assert differences(pairs()) == {}


@requires_promtool
def test_the_axis_of_a_share_of_the_whole_is_the_whole_and_no_other(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for case, reading in shown.values():
            if case.panel["type"] == "stat" and case.world == "live":
                whole = case.panel["title"] in MUST["whole_axis"].get(case.board, ())
                limits = [(one["low"], one["high"]) for one in reading]
                yield case.name, whole, limits == [(0, 1)] and "min" in case.panel["fieldConfig"]["defaults"]
                if not whole and case.panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
                    yield f"{case.name} / not the whole", False, limits == [(0, 1)]

    assert differences(pairs()) == {}


@requires_promtool
def test_timelines(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for board, panels in MUST["timelines"].items():
            for panel, bands in panels.items():
                for reading in readings_of(shown, board, panel, "live"):
                    found = {one["name"]: [" ".join(band) for band in one["bands"]] for one in reading}
                    yield f"{board} / {panel}", list(bands.items()), list(found.items())

    assert differences(pairs()) == {}


@requires_promtool
def test_tables(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for board, panels in MUST["tables"].items():
            for panel, worlds in panels.items():
                for where, rows in worlds.items():
                    for reading in readings_of(shown, board, panel, where):
                        found = [[cell(one) for one in row] for row in reading["rows"]]
                        yield f"{board} / {panel} / {where}", [[even(str(one)) for one in row] for row in rows], found

    assert differences(pairs()) == {}


@requires_promtool
def test_graphs(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for board, panels in MUST["graphs"].items():
            for panel, lines in panels.items():
                for reading in readings_of(shown, board, panel, "live"):
                    found = {line["name"]: even(f"{line['last']} {line['color']}") for line in reading["lines"]}
                    for name, must in lines.items():
                        yield f"{board} / {panel} / {name}", must, found.get(name)

    assert differences(pairs()) == {}


@requires_promtool
@pytest.mark.parametrize("rule", annotations.RULES)
def test_marks_and_regions(answers: Answers, rule: str) -> None:
    for board in all_dashboards(world.SETTINGS):
        found = annotations.read(board.to_json(), answers.prometheus, world.WINDOWS["live"], rule)
        must = MUST["marks"].get(board.uid, MUST["marks"]["others"])
        assert {name: sorted(marks) for name, marks in found.items()} == must, board.uid


@requires_promtool
def test_the_preview_has_the_same_marks_and_regions(answers: Answers) -> None:
    """Drawn from more points, so that its regions end later."""
    window = world.WINDOWS["live"]
    (overview, *_) = [board.to_json() for board in all_dashboards(world.SETTINGS)]
    report = collect.collect(answers.prometheus, [overview], window, settings=world.SETTINGS, with_panels=False)
    found = sorted((mark.text, (mark.start / 1000 - window.end) / 60) for mark in report.boards[0].marks)
    texts_and_starts = (mark.split(": ") for marks in MUST["marks"]["others"].values() for mark in marks)
    assert found == sorted((text, float(minutes.split(" to ")[0])) for text, minutes in texts_and_starts)


def test_a_dashboard_can_be_edited_where_it_is_imported_by_hand() -> None:
    """Those that are provisioned are read-only by their provider's own setting."""
    for recorded in (False, True):
        for board in all_dashboards(world.SETTINGS, recorded=recorded):
            assert board.to_json()["editable"] is True, board.uid


def test_the_table_has_every_figure_and_every_timeline() -> None:
    for kind, part in (("stat", "figures"), ("state-timeline", "timelines")):
        boards = [board.to_json() for board in all_dashboards(world.SETTINGS)]
        there = {(b["uid"], panel["title"]) for b in boards for panel in panels_of(b) if panel["type"] == kind}
        assert {(board, panel) for board, panels in MUST[part].items() for panel in panels} == there


def texts(value: Any) -> Iterator[str]:
    """All texts of a reading."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, dict):
        yield from texts(list(value.values()))


@requires_promtool
def test_nothing_is_read_that_says_nothing(shown: dict[str, tuple[Case, Any]]) -> None:
    """In no world: NaN, an empty figure, the name of a threshold, a legend not filled in, a reason in a cell."""
    wrong = {}
    for name, (case, reading) in shown.items():
        found = [text for text in texts(reading) if text == "NaN" or "-∞" in text or "{{" in text]
        if case.panel["type"] in ("stat", "bargauge"):
            found += [f"figure without a text: {one['name']}" for one in reading if not one["text"]]
        if case.panel["type"] == "table":
            found += [text for text in texts(reading["rows"]) if text.startswith("needs ")]
        if found:
            wrong[name] = found
    assert wrong == {}


@requires_promtool
def test_a_name_has_one_colour_and_a_line_a_colour_of_its_own_kind(shown: dict[str, tuple[Case, Any]]) -> None:
    graphs = [reading for case, reading in shown.values() if case.panel["type"] == "timeseries"]
    colors = {line["color"] for reading in graphs for line in reading["lines"]}
    assert "palette-classic-by-name" in colors
    assert colors <= {"palette-classic-by-name", "red", "orange", "blue", "green", "purple", "#8e8e8e"}


def comparable(case: Case, reading: Any) -> Any:
    """A reading of Grafana without what the preview does not say."""
    kind = case.panel["type"]
    if kind in ("stat", "bargauge"):
        return [{key: one[key] for key in ("name", "text", "color")} for one in reading]
    if kind == "timeseries":
        return reading["lines"][: preview.MOST_SERIES]  # the preview says how many it leaves out
    if kind == "table":
        return without_ages(case, reading if reading["rows"] else {"columns": [], "rows": []})
    return reading


def without_ages(case: Case, reading: Any) -> Any:
    """A table without "30 minutes ago": Grafana counts from the clock of its reader, whose time this is not."""
    ages = {
        one["matcher"]["options"]
        for one in case.panel["fieldConfig"]["overrides"]
        if {"id": "unit", "value": "dateTimeFromNow"} in one["properties"]
    }
    kept = [place for place, title in enumerate(reading["columns"]) if title not in ages]
    return {
        "columns": [reading["columns"][place] for place in kept],
        "rows": [[row[place] for place in kept] for row in reading["rows"]],
    }


@requires_promtool
def test_the_preview_shows_what_grafana_shows(shown: dict[str, tuple[Case, Any]]) -> None:
    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for name, (case, reading) in shown.items():
            ours, theirs = preview.reading(case), comparable(case, reading)
            if case.panel["type"] == "heatmap":
                # The preview leaves empty rows out; both write the bounds of the others.
                if case.world in ("live", "one"):
                    yield name, [f"{bound} ms".replace("+Inf ms", "+Inf") for bound in theirs], ours
                continue
            if case.panel["type"] == "table":
                ours = without_ages(case, ours)
            if ours and case.panel["type"] in ("stat", "bargauge") and "color" not in ours[0]:
                theirs = [{key: one[key] for key in ("name", "text")} for one in theirs]
            yield name, theirs, ours

    found = differences(pairs())
    assert found == {}, f"{len(found)} of {len(shown)} differ"


@cache
def links_of(line: str) -> list[Any]:
    """Where every link of every panel leads, with All, one, and names with dots chosen: [panel, choice, links]."""
    chosen = {
        "all": {"values": ["a", "b"], "all": True},
        "one": {"values": ["ocr"], "all": False},
        "dots": {"values": ["my.app", "v1.5"], "all": False},
    }
    cases, names = [], []
    for board in (board.to_json() for board in all_dashboards(world.SETTINGS)):
        all_values = {v["name"]: v.get("allValue") or "..*" for v in board["templating"]["list"]}
        for panel in panels_of(board):
            if '"url": "' not in json.dumps(panel["fieldConfig"]):
                continue
            for choice, values in chosen.items():
                variables = {
                    name: values | {"all_value": all_values.get(name, "..*")}
                    for name in ("cluster", "application", "deployment", "slo", "request_id")
                }
                # Columns of labels: those that have links, with a name that has a dot.
                labels = dict.fromkeys(("application", "deployment", "slo", "alertname", "trace_id"), "a.b")
                if panel.get("datasource", {}).get("type") == "loki":  # lines of Loki, by the titles of their columns
                    labels = {one["matcher"]["options"]: "a.b" for one in panel["fieldConfig"]["overrides"]}
                    panel = panel | {"transformations": [], "targets": [{"format": "table", "refId": "A"}]}
                series = [{"name": "x", "labels": labels, "points": [[world.END, 1.0]]}]
                answers = [{"ref": target["refId"], "series": series} for target in panel["targets"]]
                cases.append({"panel": panel, "step_ms": 15000, "answers": answers, "variables": variables})
                names.append((f"{board['uid']} / {panel['title']}", choice))
    return [[*name, found] for name, found in zip(names, read(line, cases), strict=True)]


@pytest.mark.parametrize("line", WITH_SCENES)
def test_links_lead_where_they_say(line: str) -> None:
    boards = {board.uid: board.to_json() for board in all_dashboards(world.SETTINGS)}
    ids = {uid: {str(panel["id"]) for panel in panels_of(board)} for uid, board in boards.items()}
    seen = set()
    for panel, choice, links in links_of(line):
        for link in links:
            seen.add(link["title"])
            parts = urlsplit(link["url"])
            query = parse_qs(parts.query, strict_parsing=True)
            assert "orgId" not in query, panel  # it would switch the organisation of whoever follows it
            if parts.path == "/explore":
                pane = json.loads(query["panes"][0])["a"]
                (asked,) = pane["queries"]
                assert pane["range"] == {"from": "1760400000000", "to": "1760403600000"}
                if "expr" in asked:
                    assert asked["expr"] == MUST["links"][link["title"]][choice], panel
                else:
                    assert asked["query"] == "a.b", panel
            elif parts.path.startswith("/d/"):
                uid = parts.path.removeprefix("/d/")
                assert {"from", "to"} <= query.keys(), panel
                assert {"all": ["$__all"], "one": ["ocr"], "dots": ["my.app", "v1.5"]}[choice] == query["var-cluster"]
                assert set(query.get("viewPanel", [])) <= ids[uid], panel
                if link["title"] == "Open in Deployment":
                    assert query.get("var-application") == ["a.b"], (panel, link)
    titles = {"Explain", "Open in Deployment", "Open in SLO", "Trace of this request", "All log lines of this request"}
    assert titles | set(MUST["links"]) <= seen


@pytest.mark.parametrize("line", WITH_SCENES)
def test_traceql_is_filled_in_as_tempo_reads_it(line: str) -> None:
    (board,) = [b.to_json() for b in all_dashboards(world.SETTINGS) if b.uid == "servescope-deployment"]
    queries = [t["query"] for panel in panels_of(board) for t in panel["targets"] if t["datasource"]["type"] == "tempo"]
    assert len(queries) == 3
    cases, choices = [], []
    for choice, selected in {
        "all": {"values": ["a", "b"], "all": True, "all_value": "..*"},
        "one": {"values": ["ocr"], "all": False},
        "dots": {"values": ["my.app", "v1.5"], "all": False},
    }.items():
        # A link whose text is the query: the same interpolation, by the same code.
        panel = {
            "type": "timeseries",
            "targets": [{}],
            "fieldConfig": {
                "defaults": {"links": [{"title": str(n), "url": text} for n, text in enumerate(queries)]},
                "overrides": [],
            },
        }
        answers = [{"ref": "A", "series": [{"name": "x", "labels": {}, "points": [[world.END, 1.0]]}]}]
        case = {
            "panel": panel,
            "step_ms": 15000,
            "answers": answers,
            "variables": {"application": selected, "deployment": selected},
        }
        cases.append(case)
        choices.append(choice)
    for choice, found in zip(choices, read(line, cases), strict=True):
        assert len({link["url"] for link in found}) == 3
        assert all(MUST["traces"][choice] in link["url"] for link in found)


LOCKS = sorted((ROOT / "tests/grafana/lines").glob("*/package-lock.json"))
FREE = ("Apache-2.0", "MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "BlueOak-1.0.0", "CC0-1.0", "Unlicense")
# Packages that name no licence in their metadata; each is under MIT or in the public domain by the file in it.
UNNAMED = {
    "fast-shallow-equal", "get-document", "react-universal-interface", "sort-asc", "sort-desc", "sort-object",
    "component-indexof", "rc-time-picker", "rc-trigger", "@mapbox/jsonlint-lines-primitives",
}  # fmt: skip


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.parent.name)
def test_the_locks_name_free_packages_and_no_addresses(path) -> None:
    packages = json.loads(path.read_text())["packages"]
    ours = {name.removeprefix("node_modules/"): found for name, found in packages.items() if name}
    assert "resolved" not in path.read_text()
    assert {found["license"] for name, found in ours.items() if name in ("@grafana/data", "@grafana/ui")} == {
        "Apache-2.0"
    }
    direct = json.loads(path.with_name("package.json").read_text())["dependencies"]
    assert {name for name in direct if name.startswith("@grafana/")} <= {
        f"@grafana/{name}" for name in ("data", "ui", "schema", "runtime", "scenes", "e2e-selectors", "i18n")
    }
    for name, found in ours.items():
        said = found.get("license", "")
        assert "GPL" not in said, (name, said)
        assert said or name in UNNAMED, name
        if name.startswith("@grafana/") and "/node_modules/" not in name:
            assert said in FREE, (name, said)


def test_there_is_a_lock_for_each_line() -> None:
    assert [path.parent.name for path in LOCKS] == ["10.4", "11.6", "12.4", "13.2"]
