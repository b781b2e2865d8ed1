"""Expressions over lines: the same query to a parser, every comment kept, short lines, and stable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from demo import ROOT
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.generate import REPOSITORY_SLOS, rule_files
from servescope.pages.runbooks import all_groups
from servescope.promql.layout import WIDTH, lay_out
from servescope.promql.lint import expand_macros
from servescope.rules import prometheus, recording
from servescope.rules.slo import objectives
from servescope.settings import Settings

SETTINGS = Settings()
ONE_MATCHER = re.compile(r'(\w+(=|!=|=~|!~))?"[^"]*",?')  # or one text, such as a regular expression


def shape(text: str) -> Any:
    """An expression as a parser reads it, without its parentheses, comments and white space."""
    return _shape(promql_parser.parse(expand_macros(text, "1m")))


def _shape(node: Any) -> Any:
    if isinstance(node, promql_parser.ParenExpr):
        return _shape(node.expr)
    if isinstance(node, promql_parser.BinaryExpr):
        modifier = node.modifier
        matching = modifier and (str(modifier), modifier.return_bool)
        return (str(node.op), matching, _shape(node.lhs), _shape(node.rhs))
    if isinstance(node, promql_parser.AggregateExpr):
        grouping = node.modifier and (str(node.modifier.type), tuple(node.modifier.labels))
        return (str(node.op), grouping, node.param and _shape(node.param), _shape(node.expr))
    if isinstance(node, promql_parser.Call):
        return (node.func.name, *map(_shape, node.args))
    if isinstance(node, promql_parser.SubqueryExpr):
        return (node.range, node.step, node.offset, _at(node.at), _shape(node.expr))
    if isinstance(node, promql_parser.UnaryExpr):
        return ("-", _shape(node.expr))
    return node.prettify()


def _at(at: Any) -> Any:
    return at and str(at)


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def of_documents() -> dict[str, str]:
    """Flat expressions of every rule, by their location."""
    slos = objectives.load(ROOT / REPOSITORY_SLOS)
    documents = (
        recording.document(SETTINGS),
        prometheus.document(SETTINGS),
        prometheus.document(SETTINGS, 6),
        prometheus.slo_document(slos, SETTINGS),
    )
    return {
        f"{number} {group['name']} {index} {rule.get('alert') or rule['record']}": rule["expr"]
        for number, document in enumerate(documents)
        for group in document["groups"]
        for index, rule in enumerate(group["rules"])
    }


def of_runbooks() -> dict[str, str]:
    return {
        f"{alert.name} {number}": query
        for group in all_groups(SETTINGS)
        for alert in group.alerts
        for number, (_, query) in enumerate(alert.diagnosis)
        if query
    }


def of_dashboards() -> dict[str, str]:
    found = {}
    for recorded in (False, True):
        for board in all_dashboards(SETTINGS, recorded=recorded):
            for mark in board.annotations:
                found[f"{recorded} {board.uid} {mark.name}"] = mark.expr
            for panel in board.panels:
                for number, query in enumerate(panel.queries):
                    found[f"{recorded} {board.uid} {panel.title} {number}"] = query.expr
    return found


@pytest.mark.parametrize(
    ("find", "at_least"),
    [(of_documents, 200), (of_runbooks, 60), (of_dashboards, 300)],
    ids=["rules", "runbooks", "dashboards"],
)
def test_every_expression_stays_the_same_query(find, at_least):
    expressions = find()
    assert len(expressions) >= at_least
    for where, flat in expressions.items():
        laid_out = lay_out(flat)
        assert shape(laid_out) == shape(flat), where
        assert comments(laid_out) == comments(flat), where
        assert lay_out(laid_out) == laid_out, where
        for line in laid_out.splitlines():
            code = line.strip()
            assert len(line) <= WIDTH or ONE_MATCHER.fullmatch(code) or code.startswith("#"), f"{where}: {line}"


def test_the_rule_that_was_one_line_of_2713_characters_can_be_read():
    text = rule_files(SETTINGS)[Path("plain/servescope-alerts.yml")]
    rule = text.split("- alert: RayServeErrorRatioHigh\n")[1].split("    for: ")[0]
    assert rule.startswith(
        "    expr: |-\n      # ignore ratios of only a few failures at low traffic\n      (\n        sum by"
    )
    assert max(map(len, rule.splitlines())) <= 120
    assert rule.rstrip().endswith("\n      )\n      > 0.05")


def test_every_generated_rule_is_laid_out_and_dashboards_and_pages_too():
    rules = rule_files(SETTINGS, objectives.load(ROOT / REPOSITORY_SLOS))
    assert len(rules) == 6
    for path, text in rules.items():
        # Nothing but a matcher, which has no place to break, and the texts for people is longer.
        left = [line for line in text.splitlines() if len(line) > 120 and not ONE_MATCHER.fullmatch(line.strip())]
        kinds = {line.strip().split(":")[0] for line in left}
        assert kinds <= {"description", "dashboard_url", "runbook_url"}, f"{path}: {kinds}"
    for path in ("docs/runbooks/RayServeErrorRatioHigh.md", "docs/dashboards/servescope-overview.md"):
        inside = False
        for line in (ROOT / path).read_text().splitlines():
            if line.strip().startswith("```"):
                inside = not inside and line.strip() == "```promql"
            assert not inside or len(line) <= 120 or ONE_MATCHER.fullmatch(line.strip()), f"{path}: {line}"
    assert "\\n  rate(ray_serve_num_http_requests_total{" in (ROOT / "dashboards/servescope-overview.json").read_text()


LONG = "a_metric_with_a_name_of_forty_characters"


@pytest.mark.parametrize(
    ("flat", "wanted"),
    [
        ("sum  by(a)( x ) >   5", "sum by (a) (x) > 5"),
        ("sum(x)by(a)", "sum(x) by (a)"),
        ("(((x)))", "x"),
        ("sum((a or b))", "sum(a or b)"),
        ("(a or b) or (c)", "(a or b) or c"),
        ("-(5) + (-x)", "-5 + (-x)"),
        ("(x offset 5m)[5m:1m]", "(x offset 5m)[5m:1m]"),
        ("x{a='b',c=~\"[5m] # ) or\",}[5m:15s]offset 1h", "x{a='b', c=~\"[5m] # ) or\"}[5m:15s] offset 1h"),
        (
            "x @start() offset -5m == bool on(a)group_left(b)(y)",
            "x @ start() offset -5m == bool on (a) group_left (b) y",
        ),
        ("rate(x[$__rate_interval]) AND y", "rate(x[$__rate_interval]) and y"),
        ('topk($n, x{a=~"${a:regex}"})', 'topk($n, x{a=~"${a:regex}"})'),
        ("x > 1e-3 # why\nand y", "x > 1e-3\n# why\nand y"),
        ("# above\nx\n# below", "# above\nx\n# below"),
        ("sum(# inside\n x\n # last\n)", "sum(\n  # inside\n  # last\n  x\n)"),
        (f"{LONG} / {LONG} > {LONG}", f"{LONG} / {LONG}\n> {LONG}"),
        (f"x and {LONG} + {LONG} > {LONG}", f"x\nand\n  {LONG} + {LONG}\n  > {LONG}"),
        (
            f"100 * sum({LONG} or {LONG} or {LONG}) > 5",
            f"100 * sum(\n  {LONG}\n  or {LONG}\n  or {LONG}\n)\n> 5",
        ),
        (
            f"60 - max({LONG}, {LONG}, {LONG}) - 7 unless 1 == x",
            f"60 - max(\n  {LONG},\n  {LONG},\n  {LONG}\n) - 7\nunless 1 == x",
        ),
        (
            f'label_replace({LONG}, "a", "$1", "{LONG}", "(.*)")',
            f'label_replace(\n  {LONG},\n  "a", "$1", "{LONG}", "(.*)"\n)',
        ),
        (
            f'rate({LONG}{{a="{LONG}", b="{LONG}"}}[5m] offset 1h)',
            f'rate({LONG}{{\n  a="{LONG}",\n  b="{LONG}"\n}}[5m] offset 1h)',
        ),
    ],
)
def test_layout(flat, wanted):
    assert lay_out(flat) == wanted
    assert lay_out(wanted) == wanted


@pytest.mark.parametrize("broken", ["", "sum(", "a b", "a +", "a)", "()", "x{a=", "a ? b", "(a, b)"])
def test_what_is_no_promql_is_refused(broken):
    with pytest.raises(ServescopeError):
        lay_out(broken)


# ---------------------------------------------------------------------------------------------------------------------
# Random expressions

NAMES = st.sampled_from(["up", "serve_slo:x:ratio1h", "a_metric_with_a_rather_long_name_total"])
STRINGS = st.sampled_from(['"b"', "'it is # no (comment'", '"a \\"quoted\\" or [5m]"', '"=~(.*)|x, y"'])
MATCHERS = st.lists(
    st.builds("{}{}{}".format, st.sampled_from(["a", "on", "by"]), st.sampled_from(["=", "!="]), STRINGS), max_size=3
)
SELECTORS = st.builds(
    lambda name, inside, tail: name + (f"{{{','.join(inside)}}}" if inside else "") + tail,
    NAMES,
    MATCHERS,
    st.sampled_from(["", " offset 5m", " offset -1h30m", " @ 1609746000", " @ end() offset 1d"]),
)
RATES = st.builds(
    "{}({}{}[{}])".format,
    st.sampled_from(["rate", "max_over_time"]),
    NAMES,
    st.just(""),
    st.sampled_from(["5m", "1h30m"]),
)
PLAIN = ["or", "and", "unless", "+", "-", "*", "/", "%", "^", "> bool", "== bool", "<=", "atan2"]
MATCHED = ["and on (a)", "unless ignoring (a, b)", "* on (a) group_left (b)", "/ on (a) group_right ()"]
OPERATORS = st.sampled_from([*PLAIN, *MATCHED])
GAPS = st.sampled_from([" ", "  ", "\n", "\n# a comment, (with [brackets\n", " # at the end\n"])


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}{}{}{}".format, inner, GAPS, OPERATORS, GAPS, inner),
        st.builds("({}{}{})".format, GAPS, inner, GAPS),
        st.builds("sum{}by (a, b) ({}){}".format, GAPS, inner, GAPS),
        st.builds("topk without (a) (3,{}{})".format, GAPS, inner),
        st.builds("max({}) by (a)".format, inner),
        st.builds("clamp_min({}{},{}1)".format, inner, GAPS, GAPS),
        st.builds('label_replace({}, "a", "$1", "b", "(.*)")'.format, inner),
        st.builds("sum_over_time(({}){}[1h:1m] offset 5m)".format, inner, GAPS),
        st.builds("-{}({})".format, GAPS, inner),
    )


EXPRESSIONS = st.recursive(st.one_of(SELECTORS, RATES), _deeper, max_leaves=12)


def _parses(text: str) -> bool:
    try:
        promql_parser.parse(text)
    except ValueError:
        return False
    return True


@limits(deadline=None, max_examples=400)
@given(EXPRESSIONS.filter(_parses))
@example("- (( up\n# at the end\n)) or up")
def test_any_expression_stays_the_same_query(text):
    laid_out = lay_out(text)
    assert shape(laid_out) == shape(text)
    assert sorted(comments(laid_out)) == sorted(re.findall(r"# a comment, \(with \[brackets|# at the end", text))
    assert lay_out(laid_out) == laid_out
    longest_token = 70
    for line in laid_out.splitlines():
        indented = len(line) - len(line.lstrip())
        assert len(line) <= max(WIDTH, indented + longest_token) or "offset" in line, line
