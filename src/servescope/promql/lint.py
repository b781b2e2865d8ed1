"""A lint over parsed PromQL: it checks every expression that the bundle ships, and users' own ones.

Each rule is a function over the parsed expression and finds one way in which a query misreads Ray's metrics. A finding
is one line; no finding means the expression may be shipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as parser

from servescope import catalog
from servescope.catalog import model
from servescope.catalog.model import Kind
from servescope.errors import ServescopeError
from servescope.promql import slo_series
from servescope.promql.figures import FIGURES
from servescope.promql.signals import SIGNALS
from servescope.settings import Settings

# Grafana's macros are durations that the parser rejects, so an expression is checked with a short and a long one.
MACROS = ("$__rate_interval", "$__range", "$__interval")
MACRO_VALUES = ("1m", "1h")

_VARIABLE = re.compile(r"\$\{?\w+")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_LEGEND_LABEL = re.compile(r"\{\{(.*?)\}\}")
_COUNTER_READERS = frozenset({"rate", "irate"})
_KEEPS_LABELS = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


@dataclass(frozen=True)
class Finding:
    """One error in one expression."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True)
class Vocabulary:
    """The names that an expression may use: the catalogue's metrics, recorded series, and the cluster label."""

    cluster_label: str
    recorded: Mapping[str, frozenset[str]]
    extra_labels: frozenset[str] = frozenset()

    @staticmethod
    def of(settings: Settings) -> Vocabulary:
        """The vocabulary of the bundle with these settings."""
        recorded = {signal.name(settings): frozenset(signal.labels) for signal in SIGNALS}
        recorded |= {figure.record: frozenset(figure.labels) for figure in FIGURES}
        recorded |= dict.fromkeys(slo_series.RECORDED, frozenset(slo_series.LABELS))
        return Vocabulary(settings.cluster_label, recorded, frozenset(settings.cluster_key[1:]))

    def labels(self, sample: str) -> frozenset[str]:
        """The labels that series of this name may carry; "" is a selector without a name.

        Raises:
            ServescopeError: the name is neither in the catalogue nor recorded by the bundled rules.
        """
        if not sample:
            raise ServescopeError("a selector without a metric name")
        if sample in self.recorded:
            own = self.recorded[sample]
        else:
            own = frozenset(catalog.allowed_labels(catalog.metric_of_sample(sample)))
        return own | {self.cluster_label} | self.extra_labels

    def metric(self, sample: str | None) -> model.Metric | None:
        """The catalogue's entry for a sample name; None for recorded series, unknown names and no name."""
        if not sample or sample in self.recorded:
            return None
        try:
            return catalog.metric_of_sample(sample)
        except ServescopeError:
            return None


def check(expression: str, settings: Settings, *, legend: str = "") -> list[Finding]:
    """Lint one expression, with the legend format that Grafana applies to its series.

    Returns the findings of the expression with its macros replaced by 1m and by 1h, each once.
    """
    return check_against(Vocabulary.of(settings), expression, legend=legend)


def check_against(vocabulary: Vocabulary, expression: str, *, legend: str = "") -> list[Finding]:
    """Lint one expression against a vocabulary; otherwise the same."""
    findings: dict[Finding, None] = {}
    for value in MACRO_VALUES:
        for finding in _check_once(expression, value, vocabulary, legend=legend):
            findings[finding] = None
    return list(findings)


def expand_macros(expression: str, value: str) -> str:
    """The expression with each of Grafana's duration macros replaced; the longer names first."""
    for macro in MACROS:
        expression = expression.replace(f"${{{macro[1:]}}}", value).replace(macro, value)
    return expression


def _check_once(expression: str, macro_value: str, vocabulary: Vocabulary, *, legend: str) -> Iterator[Finding]:
    expanded = expand_macros(expression, macro_value)
    if _VARIABLE.search(_QUOTED.sub('""', expanded)):
        yield Finding("variable", f"a variable outside a quoted label value: {expression}")
        return
    try:
        tree = parser.parse(expanded)
    except ValueError as error:
        yield Finding("syntax", f"{error}: {expression}")
        return
    paths = list(_selectors(tree, ()))
    unknown = False
    for path in paths:
        for finding in _check_names(path[-1], vocabulary):
            unknown = True
            yield finding
    if unknown:
        return  # findings of other rules about an unknown name would only distract
    for path in paths:
        for rule in _SELECTOR_RULES:
            yield from rule(path, vocabulary)
    yield from _both_outcomes(paths)
    yield from _check_tree(tree, vocabulary)
    yield from _check_legend(legend, labels_of(tree, vocabulary))


# ---------------------------------------------------------------------------------------------------------------------
# Walking


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, parser.BinaryExpr):
        yield node.lhs
        yield node.rhs
    elif isinstance(node, parser.Call):
        yield from node.args
    elif isinstance(node, (parser.AggregateExpr, parser.ParenExpr, parser.UnaryExpr, parser.SubqueryExpr)):
        yield node.expr
    elif isinstance(node, parser.MatrixSelector):
        yield node.vector_selector


def _selectors(node: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Every vector selector with its ancestors: (root, ..., selector)."""
    path = (*above, node)
    if isinstance(node, parser.VectorSelector):
        yield path
    for child in _children(node):
        yield from _selectors(child, path)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in _children(node):
        yield from _nodes(child)


def _bare(node: Any) -> Any:
    while isinstance(node, parser.ParenExpr):
        node = node.expr
    return node


def _matchers(selector: Any) -> list[Any]:
    matchers = list(selector.matchers.matchers)
    for group in selector.matchers.or_matchers:
        matchers.extend(group)
    return matchers


def _functions(path: tuple[Any, ...]) -> list[str]:
    return [node.func.name for node in path if isinstance(node, parser.Call)]


# ---------------------------------------------------------------------------------------------------------------------
# Rules over one selector


def _check_names(selector: Any, vocabulary: Vocabulary) -> Iterator[Finding]:
    try:
        carried = vocabulary.labels(selector.name or "")
    except ServescopeError as error:
        yield Finding("metric", str(error))
        return
    for matcher in _matchers(selector):
        if matcher.name not in carried:
            yield Finding("label", f"{selector.name} has no label {matcher.name!r}")


Path = tuple[Any, ...]


def _fabricated_sum(path: Path, vocabulary: Vocabulary) -> Iterator[Finding]:
    name = path[-1].name
    metric = vocabulary.metric(name)
    if metric and metric.kind is Kind.HISTOGRAM and name == f"{metric.name}_sum":
        yield Finding("sum", f"{name}: Ray estimates histogram sums from the midpoints of the buckets")


def _bare_event_gauge(path: Path, vocabulary: Vocabulary) -> Iterator[Finding]:
    metric = vocabulary.metric(path[-1].name)
    if metric and metric.event_driven and not any(name.endswith("_over_time") for name in _functions(path)):
        yield Finding("event-gauge", f"{metric.name} disappears 20 s after its last change; read it with max_over_time")


def _counter_reading(path: Path, vocabulary: Vocabulary) -> Iterator[Finding]:
    """A counter is read with rate(), or with the difference that `promql.events` builds; anything else is wrong."""
    selector, functions = path[-1], _functions(path)
    metric = vocabulary.metric(selector.name)
    if metric is None:
        return
    cumulative = metric.kind in (Kind.COUNTER, Kind.HISTOGRAM)
    if "increase" in functions:
        yield Finding(
            "increase",
            f"{selector.name}: increase() misses first increments, and over a sum it counts events that never happened",
        )
    elif cumulative and not _COUNTER_READERS & set(functions) and not (_inside_events(path) or _only_there(path)):
        yield Finding("counter", f"{selector.name} only grows; read it with rate() or promql.events()")
    elif not cumulative and _COUNTER_READERS & set(functions):
        yield Finding("gauge-rate", f"{selector.name} is a gauge; rate() counts every decrease as a reset")


def _inside_events(path: Path) -> bool:
    """Whether an aggregation above the selector has the same counter at two times, as `promql.events` does."""
    name = path[-1].name
    for node in path[:-1]:
        offsets = {str(p[-1].offset) for p in _selectors(node, ()) if p[-1].name == name}
        if isinstance(node, parser.AggregateExpr) and len(offsets) > 1:
            return True
    return False


def _only_there(path: Path) -> bool:
    """Whether a `group` above the selector asks for its labels alone, so that its value does not matter."""
    for node in reversed(path[:-1]):
        if isinstance(node, parser.AggregateExpr):
            return str(node.op) == "group"
        if not isinstance(node, (parser.ParenExpr, parser.Call, parser.MatrixSelector)):
            return False
    return False


def _actor_source(path: Path, vocabulary: Vocabulary) -> Iterator[Finding]:
    del vocabulary
    selector = path[-1]
    if selector.name == "ray_actors":
        wanted = [m for m in _matchers(selector) if m.name == "Source" and m.op == parser.MatchOp.Equal]
        if [m.value for m in wanted] != ["gcs"]:
            yield Finding("actors", 'ray_actors counts every actor twice unless Source="gcs"')


def _http_errors(path: Path, vocabulary: Vocabulary) -> Iterator[Finding]:
    del vocabulary
    selector = path[-1]
    if re.fullmatch(r"ray_serve_num_(deployment_)?http_error_requests_total", selector.name or "") and not any(
        matcher.name == "error_code" for matcher in _matchers(selector)
    ):
        yield Finding("http-errors", f"{selector.name} counts 404 and 499 as errors; select by error_code")


_SELECTOR_RULES: tuple[Callable[[Path, Vocabulary], Iterator[Finding]], ...] = (
    _fabricated_sum,
    _bare_event_gauge,
    _counter_reading,
    _actor_source,
    _http_errors,
)


def _both_outcomes(paths: list[Path]) -> Iterator[Finding]:
    # Successes that a label marks as such claim nothing about the rest.
    names = {path[-1].name for path in paths if not any(map(_names_outcome, path))}
    if (
        "ray_serve_deployment_request_counter_total" in names
        and "ray_serve_deployment_error_counter_total" not in names
    ):
        yield Finding(
            "failures",
            "ray_serve_deployment_request_counter_total excludes failures; add the error counter",
        )


def _names_outcome(node: Any) -> bool:
    return isinstance(node, parser.Call) and node.func.name == "label_replace" and node.args[1].val == "outcome"


# ---------------------------------------------------------------------------------------------------------------------
# Rules over the tree


def _check_tree(tree: Any, vocabulary: Vocabulary) -> Iterator[Finding]:
    # Inside, `promql.increase` tells processes apart; what a query shows must not.
    shown = labels_of(tree, vocabulary)
    for node in _nodes(tree):
        if isinstance(node, parser.AggregateExpr) and node.modifier is not None:
            grouped = frozenset(node.modifier.labels)
            for label in sorted(grouped & shown & {"WorkerId", "SessionName"}):
                yield Finding("grouping", f"{label} changes with every restart; never group by it")
            if node.modifier.type == parser.AggModifierType.By:
                for label in sorted(grouped - labels_of(node.expr, vocabulary)):
                    yield Finding("label", f"grouping by {label!r}, which the series inside do not have")
        elif isinstance(node, parser.BinaryExpr):
            yield from _check_join(node, vocabulary)
        elif isinstance(node, parser.Call) and node.func.name == "histogram_quantile":
            if "le" not in labels_of(node.args[1], vocabulary):
                yield Finding("quantile", "histogram_quantile over series without le")
            if isinstance(_bare(node.args[1]), parser.VectorSelector):
                yield Finding("quantile", "histogram_quantile over cumulative buckets; apply rate() first")


def _check_join(node: Any, vocabulary: Vocabulary) -> Iterator[Finding]:
    """Two sides of an operator: matched on labels that exist, and cluster by cluster."""
    left, right = labels_of(node.lhs, vocabulary), labels_of(node.rhs, vocabulary)
    matching = node.modifier.matching if node.modifier is not None else None
    cluster = vocabulary.cluster_label
    if matching is not None:
        named = frozenset(matching.labels)
        for label in sorted(named - left - right):
            yield Finding("label", f"matching on {label!r}, which neither side has")
        kept = cluster in named if matching.type == parser.LabelModifierType.Include else cluster not in named
        # The labels of a metric that is not ours are unknown: they hold any, "" among them.
        if not kept and cluster in left & right and "" not in left | right:
            yield Finding("join", f"matches series of different clusters; keep {cluster} among the labels matched on")
    elif (
        str(node.op) not in ("and", "or", "unless")
        and cluster not in left | right
        and _totals(node.lhs) ^ _totals(node.rhs) == {"max", "sum"}
    ):
        yield Finding("join", f"a sum and a maximum over all clusters; keep {cluster} inside, and total outside")


def _totals(node: Any) -> frozenset[str]:
    """Which of `sum` and `max` an expression was brought down with, outermost only."""
    if isinstance(node, parser.AggregateExpr):
        return frozenset({str(node.op)}) & {"max", "sum"}
    found: frozenset[str] = frozenset()
    for child in _children(node):
        found |= _totals(child)
    return found


def labels_of(node: Any, vocabulary: Vocabulary) -> frozenset[str]:
    """The labels that the result of an expression can have; an upper bound if the sides of an operator differ."""
    if isinstance(node, parser.VectorSelector):
        return vocabulary.labels(node.name or "")
    if isinstance(node, parser.Call):
        return _labels_of_call(node, vocabulary)
    if isinstance(node, parser.AggregateExpr):
        return _labels_of_aggregate(node, vocabulary)
    if isinstance(node, parser.BinaryExpr):
        return _labels_of_binary(node, vocabulary)
    result: frozenset[str] = frozenset()
    for child in _children(node):
        result |= labels_of(child, vocabulary)
    return result


def _labels_of_call(node: Any, vocabulary: Vocabulary) -> frozenset[str]:
    if not node.args:
        return frozenset()
    name = node.func.name
    if name in ("vector", "scalar", "time"):
        return frozenset()
    if name == "histogram_quantile":
        return labels_of(node.args[1], vocabulary) - {"le"}
    if name == "quantile_over_time":
        return labels_of(node.args[1], vocabulary)
    inner = labels_of(node.args[0], vocabulary)
    if name in ("label_replace", "label_join"):
        return inner | {node.args[1].val}
    return inner


def _labels_of_aggregate(node: Any, vocabulary: Vocabulary) -> frozenset[str]:
    inner = labels_of(node.expr, vocabulary)
    if str(node.op) in _KEEPS_LABELS:
        return inner
    if node.modifier is None:
        return frozenset()
    named = frozenset(node.modifier.labels)
    kept = inner & named if node.modifier.type == parser.AggModifierType.By else inner - named
    return kept | ({node.param.val} if str(node.op) == "count_values" else frozenset())


def _labels_of_binary(node: Any, vocabulary: Vocabulary) -> frozenset[str]:
    left, right = labels_of(node.lhs, vocabulary), labels_of(node.rhs, vocabulary)
    operator = str(node.op)
    if operator == "or":
        return left | right
    if operator in ("and", "unless"):
        return left
    scalars = (parser.NumberLiteral,)
    if isinstance(_bare(node.lhs), scalars):
        return right
    if isinstance(_bare(node.rhs), scalars):
        return left
    modifier = node.modifier
    if modifier is None:
        return left
    extra = frozenset(modifier.group_labels or ())
    if modifier.card == parser.VectorMatchCardinality.ManyToOne:
        return left | extra
    if modifier.card == parser.VectorMatchCardinality.OneToMany:
        return right | extra
    comparison = operator in ("==", "!=", ">", "<", ">=", "<=") and not modifier.return_bool
    if modifier.matching is None or comparison:
        return left
    named = frozenset(modifier.matching.labels)
    return left & named if modifier.matching.type == parser.LabelModifierType.Include else left - named


def _check_legend(legend: str, kept: frozenset[str]) -> Iterator[Finding]:
    for match in _LEGEND_LABEL.finditer(legend):
        label = match.group(1).strip()
        if not re.fullmatch(r"\w+", label):
            yield Finding(
                "legend", f"{match.group(0)} is not a label reference: Grafana accepts one label between braces"
            )
        elif label not in kept:
            yield Finding("legend", f"the legend uses {label!r}, which the query drops")
