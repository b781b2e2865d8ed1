"""No input ends in an internal error, leaves half a file behind, or makes rules that Prometheus refuses."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import typer
import yaml
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from servescope import generate
from servescope.clients.prometheus import Prometheus
from servescope.clients.ray import APPLICATIONS, Fetcher
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.exporter import worker
from servescope.exporter.state import Detail, families
from servescope.grafana import dashboard_json, templating
from servescope.pages import runbooks
from servescope.report import collect, page, preview
from servescope.settings import Settings
from tests.support import promtool
from tests.support.in_process import Ended, assert_known, servescope
from tests.support.json_mutations import SCALARS, VALUES, each_replaced, mutated
from tests.support.ray_rest_api import nodes, sample
from tests.support.trace_files import A, document

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")
EXAMPLES = 500 if IN_CI else 100
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=IN_CI,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

TINY = {"uid": "tiny", "title": "Tiny", "panels": [], "templating": {"list": []}}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(autouse=True)
def what_is_slow_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *files, **more: None, raising=False)
    monkeypatch.setattr(typer.main, "get_command", cache(typer.main.get_command))
    monkeypatch.setattr(page, "plotly_js", lambda: "/* the plotting library */")
    pages = runbooks.pages(runbooks.all_groups(Settings()))
    monkeypatch.setattr(runbooks, "all_groups", lambda of: [])
    monkeypatch.setattr(runbooks, "pages", lambda groups: pages)


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Prometheus answers every query with two series."""

    def answer(self: Prometheus, path: str, parameters: dict[str, str]) -> Any:
        metric = {"application": "shop", "deployment": "Front", "le": "+Inf"}
        others = {"application": "shop", "deployment": "Back", "le": "5"}
        if path == "/api/v1/query":
            at = float(parameters.get("time", 0))
            result = [{"metric": metric, "value": [at, "7.25"]}, {"metric": others, "value": [at, "NaN"]}]
            return {"resultType": "vector", "result": result}
        if path == "/api/v1/query_range":
            if parameters["query"] == "ALERTS":
                return {"resultType": "matrix", "result": []}
            values = [[float(parameters[name]), value] for name, value in (("start", "0"), ("end", "7.25"))]
            return {"resultType": "matrix", "result": [{"metric": m, "values": values} for m in (metric, others)]}
        if path == "/api/v1/rules":
            return {"groups": []}
        return ["shop", "a.b"] if path.startswith("/api/v1/label/") else {"version": "2.53.0"}

    monkeypatch.setattr(Prometheus, "_get", answer)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host has an address. What Python itself refuses before it asks stays."""
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *others: Any, **more: Any) -> Any:
        real("127.0.0.1", port, flags=socket.AI_NUMERICHOST)
        (host if isinstance(host, str) else host.decode()).encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A folder with a dashboard that has no panel."""
    folder = tmp_path / "boards"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return folder


def assert_whole(folder: Path, ended: Ended) -> None:
    """No file below a folder is half written; after a failure there is none."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in found if path.name.startswith(".")] == []
    assert bool(found) == (ended.code == 0), ended.err
    assert all(path.read_bytes().endswith(b"\n") for path in found)


class RuleFiles:
    """The rule files that a command wrote, for promtool to read them all at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts: dict[str, str] = {}

    def run(self, *arguments: str | Path) -> Ended:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            output = Path(place, "out")
            ended = servescope("rules", *arguments, "-o", output)
            assert_known(ended)
            assert_whole(output, ended)
            for path in output.glob("*.yml"):
                self.texts.setdefault(path.read_text(encoding="utf-8"), f"{len(self.texts)}.yml")
        return ended

    def assert_accepted(self) -> None:
        if shutil.which("promtool") is None:
            pytest.skip("promtool is not on the PATH: make tools installs it")
        assert self.texts, "no document was accepted"
        for text, name in self.texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        result = promtool.run("check", "rules", "--lint=none", *(self.folder / name for name in self.texts.values()))
        assert result.returncode == 0, result.stderr[-2000:]


# ---------------------------------------------------------------------------------------------------------------------
# The runner itself


def test_an_internal_error_is_one_line_and_exit_code_70_and_with_debug_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def planted(settings: Settings) -> dict[Path, str]:
        raise RuntimeError("planted\nhere")

    monkeypatch.setattr(generate, "dashboard_files", planted)
    line = (
        "servescope: internal error: RuntimeError: planted here (run again with --debug for the traceback, "
        "and report it: https://github.com/example/servescope/issues)\n"
    )
    assert servescope("dashboards", "-o", tmp_path / "out") == Ended(70, "", line)
    for arguments in (["--debug", "dashboards"], ["dashboards", "--debug"]):
        ended = servescope(*arguments, "-o", tmp_path / "out")
        assert ended.code == 70
        assert ended.err.startswith("Traceback (most recent call last):\n")
        assert ended.err.endswith(f"RuntimeError: planted\nhere\n{line}")
    monkeypatch.setenv("SERVESCOPE_DEBUG", "1")
    assert "Traceback" in servescope("dashboards", "-o", tmp_path / "out").err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (ServescopeError("first\nsecond"), 1, "servescope: first second\n"),
        (ModuleNotFoundError("No module named 'servescope.gone'", name="servescope.gone"), 70, None),
    ],
)
def test_other_ends(monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, err: str | None):
    def planted(settings: Settings) -> dict[Path, str]:
        raise raised

    monkeypatch.setattr(generate, "dashboard_files", planted)
    ended = servescope("dashboards")
    assert ended.code == code
    assert err is None or ended.err.strip("\n") == err.strip("\n")


def test_wrong_usage_is_2():
    assert servescope("dashboards", "--nonsense").code == 2
    assert servescope("nonsense").code == 2
    assert servescope("--help").code == 0


def test_a_planted_bug_fails_a_property(board: Path, prometheus: None, monkeypatch: pytest.MonkeyPatch):
    def planted(moment: datetime, unit: str) -> datetime:
        raise KeyError(unit)

    monkeypatch.setattr(templating, "_floor", planted)
    with pytest.raises(AssertionError, match="internal error: KeyError: 'd'"):
        check_time("now/d", board)


# ---------------------------------------------------------------------------------------------------------------------
# Times and URLs


def check_time(text: str, board: Path) -> None:
    output = board / "snapshot.html"
    output.unlink(missing_ok=True)
    ended = servescope(
        "snapshot", f"--from={text}", f"--to={text}", f"--logs-around={text}", "--dashboards", board, "-o", output
    )
    assert_known(ended)
    assert ended.code == 1  # it begins when it ends, unless it is rounded
    ended = servescope("snapshot", f"--from={text}", "--dashboards", board, "-o", output)
    assert_known(ended)
    assert output.is_file() == (ended.code == 0)


UNITS = st.sampled_from("smhdwMy")
TIMES = st.one_of(
    TEXTS,
    st.sampled_from(
        ["now-3000y", "now-99999999999d", "now-" + "9" * 5000 + "s", "99999999999999", "-0", "٣", "now-٣h"]
    ),
    st.builds("now{}{}{}".format, st.sampled_from("+-"), st.integers(0, 10**12), UNITS),
    st.builds("now-{}y+{}M".format, st.integers(0, 10**4), st.integers(0, 10**5)),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)).map(str),
    st.integers().map(str),
    st.floats().map(str),
)


def test_times(board: Path, prometheus: None):
    @many
    @given(TIMES)
    def check(text: str) -> None:
        check_time(text.replace("/", "-"), board)  # of rounded ones both ends differ

    check()


def test_rounded_times(board: Path, prometheus: None):
    @many
    @given(st.one_of(TIMES, st.just("now")), UNITS)
    def check(text: str, unit: str) -> None:
        output = board / "snapshot.html"
        assert_known(servescope("snapshot", f"--from={text}/{unit}", "--dashboards", board, "-o", output))
        assert_known(servescope("snapshot", "--from=0", f"--to={text}/{unit}", "--dashboards", board, "-o", output))

    check()


URLS = st.one_of(
    TEXTS,
    st.sampled_from(
        ["http://localhost:port", "http://[::1", "http://[::1]:9/x", "//x", "http://", "http://" + "a" * 80, "\udcff"]
    ),
    st.builds(
        "{}{}{}".format, st.sampled_from(["http://", "https://", "ftp://", "http:", "http://u:p@"]), TEXTS, TEXTS
    ),
    st.builds("http://127.0.0.1:{}{}".format, st.integers(), TEXTS),
)


@pytest.mark.parametrize(
    "command", ["snapshot --prometheus", "snapshot --tempo", "snapshot --loki", "exporter --once --address"]
)
def test_urls(board: Path, no_network: None, command: str, request: pytest.FixtureRequest):
    if "prometheus" not in command:
        request.getfixturevalue("prometheus")
    arguments = [] if "exporter" in command else ["--dashboards", board, "-o", board / "snapshot.html"]

    @settings(many, max_examples=EXAMPLES // 4 if not IN_CI else EXAMPLES)
    @given(URLS)
    def check(url: str) -> None:
        ended = servescope(*arguments[:0], *command.split()[:-1], f"{command.split()[-1]}={url}", *arguments)
        assert_known(ended)
        assert "invalid response (" not in ended.err
        assert ended.code == 1 or not url

    check()


# ---------------------------------------------------------------------------------------------------------------------
# Settings and objectives

NAMES = [field.name for field in fields(Settings)]
DEFAULTS = {name: getattr(Settings(), name) for name in NAMES}
NEAR = {
    str: st.one_of(TEXTS, st.sampled_from(["now-0h", "1d", "{{", "{alert}", '"', "a\\b", "it's", "https://x.example"])),
    int: st.one_of(st.integers(), st.integers(0, 200)),
    float: st.one_of(st.floats(), st.floats(0, 1), st.integers()),
    tuple: st.lists(st.one_of(TEXTS, st.sampled_from(["503", "429", "4٣٣"])), max_size=3),
    dict: st.dictionaries(TEXTS, TEXTS, max_size=3),
}


def near(name: str) -> st.SearchStrategy[Any]:
    """Values of a setting, most of them of the right type."""
    right = next(kind for kind in NEAR if isinstance(DEFAULTS[name], kind))
    return st.one_of(NEAR[right], NEAR[right], NEAR[right], VALUES)


PAIRS = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), near(name)))
SETTINGS = st.one_of(
    st.lists(PAIRS, min_size=1, max_size=4).map(dict),
    st.just({"default_team": "ops"}).flatmap(
        lambda base: st.dictionaries(TEXTS, st.just("shop"), max_size=2).map(lambda teams: {**base, "teams": teams})
    ),
    VALUES,
)
YAML_TEXTS = st.one_of(
    SETTINGS.map(lambda value: yaml.safe_dump(value, allow_unicode=True)),
    TEXTS,
    st.sampled_from(
        ["2026-99-99", "a: &x [*x]", "a: *b", "? [a]\n: b", "[" * 500, "1e999", "!!python/name:os.system x"]
    ),
    st.lists(st.sampled_from(list("{}[]:,&*!|>'\"#-? \n\tab1")), max_size=30).map("".join),
)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written, file, whole = RuleFiles(tmp_path), tmp_path / "settings.yml", iter(range(5))
    complete = generate.rule_files

    def rule_files(of: Settings, *others: Any) -> dict[Path, str]:
        # All rules take seconds; no rule is another one because of the other examples.
        return complete(of, *others) if next(whole, None) is not None else {Path("none.yml"): "groups: []\n"}

    monkeypatch.setattr(generate, "rule_files", rule_files)

    @many
    @given(YAML_TEXTS)
    @example("runbook_url: 'https://x.example/{{'")
    @example("hung_minutes: 10000000000000000000")
    @example("default_team: ops\nteams: {'a\\\"b': ml}")
    def check(text: str) -> None:
        assume(set(text.split()) - {"{}"})  # the defaults are tested elsewhere
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        written.run("--settings", file)

    check()
    written.assert_accepted()


SLO: dict[str, Any] = {
    "slos": [
        {
            "name": "checkout",
            "application": "shop",
            "route": "/checkout",
            "availability": 0.999,
            "latency": {"objective": 0.95, "threshold_ms": 500},
            "window": "30d",
            "count_backpressure": True,
        },
        {"name": "b", "application": "shop", "deployment": "Payment", "availability": 0.99},
    ]
}
OPENSLO: dict[str, Any] = {
    "apiVersion": "openslo/v1",
    "kind": "SLO",
    "metadata": {"name": "checkout", "labels": {"route": "/checkout"}},
    "spec": {
        "service": "shop",
        "budgetingMethod": "Occurrences",
        "timeWindow": [{"duration": "4w", "isRolling": True}],
        "objectives": [{"target": 0.999}, {"op": "lte", "value": 500, "targetPercent": 95}],
    },
}


@st.composite
def renamed(draw: st.DrawFn, of: dict[str, Any]) -> dict[str, Any]:
    """A good document with other names of applications and routes, which end up in rules."""
    result = copy.deepcopy(of)
    where = (
        result["slos"][0] if "slos" in result else draw(st.sampled_from([result["spec"], result["metadata"]["labels"]]))
    )
    names = [name for name in where if name in ("application", "route", "service", "name")]
    where[draw(st.sampled_from(names))] = draw(
        st.one_of(TEXTS, st.sampled_from(["{{", "s\nx", "\x7f", "a'b", "/a/{id}"]))
    )
    return result


@pytest.mark.parametrize("good", [SLO, OPENSLO], ids=["own", "OpenSLO"])
def test_objectives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: dict[str, Any]):
    monkeypatch.setattr(
        generate, "rule_files", lambda of, slos, scale: generate.slo_rule_files(of, slos[:3], scale)
    )  # the others do not depend on them
    written, file = RuleFiles(tmp_path), tmp_path / "slo.yaml"

    @many
    @given(st.one_of(mutated(good), renamed(good), VALUES), st.booleans())
    def check(held: Any, twice: bool) -> None:
        try:
            text = yaml.safe_dump_all([held, OPENSLO] if twice else [held], allow_unicode=True)
        except (yaml.YAMLError, ValueError):
            text = json.dumps(held)
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        written.run("--slo", file)

    check()
    written.assert_accepted()


# ---------------------------------------------------------------------------------------------------------------------
# What other programs wrote

SPAN = json.loads(document(A, "a1", request_id="r-a", http__response__status_code=500, status=2, ms=50))
LINES = st.one_of(VALUES.map(json.dumps), mutated(SPAN).map(json.dumps), TEXTS, st.just("[" * 5000))


def test_trace_files(tmp_path: Path):
    @many
    @given(st.lists(LINES, max_size=4))
    def check(lines: list[str]) -> None:
        (tmp_path / "traces.json").write_text("\n".join([*lines, document(A, "a2", "a1"), ""]), encoding="utf-8")
        for wanted in (["--slowest=3"], ["--errors"], [A], ["r-a"]):
            ended = servescope("trace", *wanted, "--traces", tmp_path, "--logs", tmp_path)
            assert ended.code in (0, 1), ended.err
            assert all(line.startswith("servescope: ") for line in ended.err.splitlines()), ended.err
            if wanted in (["--slowest=3"], [A]):
                assert ended.code == 0, ended.err

    check()


BOARDS = [json.loads(json.dumps(one.to_json())) for one in all_dashboards(Settings())]


# What is read of a dashboard, so that changes hit that; the rest would only be carried along.
READ_NAMES = """
    uid title description refresh time from to panels templating list annotations name type query allValue current
    value multi includeAll expr titleFormat textFormat iconColor enable gridPos x y w h options content legend
    sortBy sortDesc displayName desc yAxis cellValues unit graphMode fieldConfig defaults overrides matcher id
    properties custom fillOpacity stacking mode lineStyle fill thresholdsStyle drawStyle cellOptions decimals min
    max noValue thresholds steps color fixedColor mappings text result links url transformations include names
    excludeByName indexByName renameByName targets datasource refId legendFormat instant repeat repeatDirection
    maxPerRow collapsed
"""
READ = frozenset(READ_NAMES.split())


def read_part(of: Any) -> Any:
    if isinstance(of, dict):
        kept = {key: read_part(held) for key, held in of.items() if key in READ or key.isdecimal()}
        return kept or of  # names of fields and columns are keys, too
    return [read_part(held) for held in of] if isinstance(of, list) else of


@st.composite
def other_boards(draw: st.DrawFn) -> Any:
    """A dashboard of one to three of our panels, of different types, changed in a few places."""
    whole = read_part(draw(st.sampled_from(BOARDS)))
    panels = [panel for row in whole["panels"] for panel in (row, *row.get("panels", []))]
    some = draw(st.lists(st.sampled_from(panels), min_size=1, max_size=3))
    panels = [{"repeat": "deployment", **panel, "panels": panel.get("panels", [])[:2]} for panel in some]
    return draw(mutated({**whole, "panels": panels}))


def with_target(**fields: Any) -> dict[str, Any]:
    return {**TINY, "panels": [{"type": "stat", "title": "T", "targets": [{"expr": "up", **fields}]}]}


def test_dashboards_of_other_teams(tmp_path: Path, prometheus: None):
    folder = tmp_path / "boards"
    output, file = tmp_path / "snapshot.html", folder / "theirs.json"
    folder.mkdir()

    @many
    @given(other_boards())
    @example(with_target())
    @example(with_target(datasource="Prometheus"))
    @example({**with_target(), "time": None, "refresh": "1d"})
    @example({**TINY, "templating": {"list": [{"name": "x", "type": "query"}]}})
    @example({"uid": "b", "title": "B", "panels": []})
    @example({**TINY, "panels": [{"type": "stat", "repeat": []}]})
    @example({**TINY, "time": {"from": "now-3000y", "to": "now"}})
    def check(held: Any) -> None:
        file.write_text(json.dumps(held))
        output.unlink(missing_ok=True)
        ended = servescope("snapshot", "--from=1760400000", "--to=1760403600", "--dashboards", folder, "-o", output)
        assert_known(ended)
        assert output.is_file() == (ended.code == 0)
        if ended.code:
            return
        with Prometheus("http://127.0.0.1:9") as client:
            boards = collect.load_dashboards(Settings(), folder)
            pages = preview.Pages(client, boards, Settings())
            try:
                assert pages.page(boards[0]["uid"], {}).startswith("<!doctype html>")
                json.loads(pages.row(boards[0]["uid"], 0, {"at": ["1760403600"], "from": ["now-1h"]}))
            except ServescopeError:
                pass  # its own line: a page of theirs may have no row, or no valid time

    check()


def boards_with_one_field_changed() -> Iterator[tuple[str, Any]]:
    """Each field that is read of any of our dashboards, with a value of each other type: its place, and the board."""
    empty, seen = {**read_part(BOARDS[0]), "panels": []}, set()
    for board in BOARDS:
        for row in read_part(board)["panels"]:
            for panel in (row, *row.get("panels", ())):
                one = [panel | {"panels": []}]
                for place, panels in each_replaced(one, with_=(None, 10**400, "x", {"a": 1})):
                    if (panel["type"], place) not in seen:
                        seen.add((panel["type"], place))
                        yield f"{panel['type']} {place}", {**empty, "panels": panels}
    yield from each_replaced({**empty, "panels": [{"type": "text", "title": "T", "options": {"content": "x"}}]})


def test_each_field_of_a_dashboard_may_be_of_another_type(prometheus: None):
    """Refused in one line, or shown: a random change hits a field that only one panel has too rarely."""
    failed, shown, refused = [], 0, 0
    for place, held in boards_with_one_field_changed():
        with Prometheus("http://127.0.0.1:9") as client:
            try:
                board = dashboard_json.checked(held)
                json.loads(preview.Pages(client, [board], Settings()).row(board["uid"], 0, {"at": ["1760403600"]}))
                shown += 1
            except ServescopeError:
                refused += 1
            except Exception as error:
                failed.append(f"{place}: {error!r}")
    assert failed == [], "\n".join(failed)
    assert min(shown, refused) > 300


@pytest.mark.parametrize("details", [[], ["--all-states", "--each-replica"]])
def test_rest_documents(monkeypatch: pytest.MonkeyPatch, details: list[str]):
    bodies = {"applications": b"", "nodes": b""}
    monkeypatch.setattr(
        Fetcher, "fetch", lambda self, path=APPLICATIONS: bodies["applications" if path == APPLICATIONS else "nodes"]
    )
    # In this process; `invalid response` is what the exporter's own last resort says.
    monkeypatch.setattr(
        worker.Worker,
        "metrics",
        lambda self, held, of_nodes: worker.metrics(held, of_nodes, Detail(*[bool(details)] * 2)),
    )

    @settings(many, max_examples=EXAMPLES // 2)
    @given(st.one_of(mutated(sample()), VALUES), st.one_of(mutated(nodes({"n": "spot"})), SCALARS))
    def check(applications: Any, of_nodes: Any) -> None:
        bodies.update(applications=json.dumps(applications).encode(), nodes=json.dumps(of_nodes).encode())
        ended = servescope("exporter", "--once", *details)
        assert_known(ended)
        assert "invalid response (" not in ended.err

    check()


@pytest.mark.parametrize("details", [[], ["--each-replica"]])
def test_each_field_of_the_document_of_ray_may_be_of_another_type(details: list[str]):
    detail, failed = Detail(*[bool(details)] * 2), []
    for place, held in each_replaced(sample()):
        try:
            families(held, detail, None)
        except ServescopeError:
            pass
        except Exception as error:
            failed.append(f"{place}: {error!r}")
    assert failed == []


# ---------------------------------------------------------------------------------------------------------------------
# A bug anywhere


class PlantedError(Exception):
    """A bug: no code expects it."""


def calls_of(run: Callable[[], object], act: Callable[[CodeType, int], None]) -> None:
    """Run something, and `act` on each call of a function of ours in this thread, with its number."""
    numbers = itertools.count()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS) and not frame.f_code.co_name.startswith("<"):
            act(frame.f_code, next(numbers))

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)


OURS = str(Path(generate.__file__).parent)
OWN_RUNNER = str(Path(OURS, "__main__.py"))  # it makes the line
COMMANDS = {
    "dashboards": ["dashboards", "-o", "{folder}/out"],
    "rules": ["rules", "--slo", "{folder}/slo.yaml", "-o", "{folder}/out"],
    "trace": ["trace", A, "--traces", "{folder}", "--logs", "{folder}"],
    "lint": ["lint", "{folder}/rules.yml"],
    "settings": ["rules", "--settings", "{folder}/settings.yaml", "-o", "{folder}/out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bug_in_any_function_ends_as_an_internal_error(tmp_path: Path, command: str):
    """Each function raises once what no code expects. A blanket `except` on the way up would hide it."""
    (tmp_path / "slo.yaml").write_text(yaml.safe_dump(SLO))
    (tmp_path / "settings.yaml").write_text("scrape_interval_s: 30\n")
    (tmp_path / "traces.json").write_text(document(A, "a1", request_id="r-a") + "\n")
    rule = {"alert": "A", "expr": "rate(ray_serve_num_http_requests_total[5m]) > 1"}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    arguments = [argument.format(folder=tmp_path) for argument in COMMANDS[command]]
    assert servescope(*arguments).code == 0
    first: dict[CodeType, int] = {}
    calls_of(lambda: servescope(*arguments), lambda code, number: first.setdefault(code, number))
    inner = [(code, number) for code, number in first.items() if code.co_filename != OWN_RUNNER]
    hidden = []
    for code, number in inner[:: max(1, len(inner) // (40 if IN_CI else 10))]:
        ended: list[Ended] = []

        def plant(called: CodeType, at: int, number: int = number) -> None:
            if at == number:
                raise PlantedError(called.co_qualname if sys.version_info >= (3, 11) else called.co_name)

        calls_of(lambda ended=ended: ended.append(servescope(*arguments)), plant)
        if ended[0].code != 70 or "internal error: PlantedError" not in ended[0].err:
            hidden.append(f"{code.co_filename}:{code.co_firstlineno} {code.co_name}: {ended[0]}")
    assert len(inner) > 20
    assert hidden == [], "\n".join(hidden)
