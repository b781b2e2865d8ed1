"""The lint over a user's own files: Prometheus rules, Grafana-managed rules and Grafana dashboards.

Metrics of other exporters pass, and so do series that the files' own rules record. Names with the prefix of Ray's or
servescope's metrics must be in the catalogue, unless the user declares them as the application's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from servescope.errors import ServescopeError
from servescope.promql.lint import Finding, Vocabulary, check_against
from servescope.settings import Settings

_OURS = ("ray_", "servescope_", "serve_")
_SUFFIXES = (".yml", ".yaml", ".json")
_LONGEST_MESSAGE = 300

# What Prometheus' service discovery in Kubernetes usually adds to every series, besides job and instance.
TARGET_LABELS = ("cluster", "container", "endpoint", "namespace", "node", "pod", "service")


class _EveryLabel(frozenset[str]):
    """The labels of an unknown metric: any."""

    def __contains__(self, label: object) -> bool:
        return True

    def __or__(self, other: object) -> Any:
        return self

    def __and__(self, other: Any) -> Any:
        return other

    def __sub__(self, other: object) -> Any:
        return self

    def __rsub__(self, other: object) -> Any:
        return frozenset[str]()

    __ror__, __rand__ = __or__, __and__


_EVERY_LABEL: Final = _EveryLabel()


@dataclass(frozen=True, kw_only=True)
class ReadersVocabulary(Vocabulary):
    """The names that a user's expressions may use: all but unknown ones with Ray's or servescope's prefix.

    `own` are prefixes of the application's metrics, `known` the names that the user's rules record, and
    `target_labels` what the user's Prometheus adds to every series.
    """

    own: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    target_labels: frozenset[str] = frozenset()

    def labels(self, sample: str) -> frozenset[str]:
        """The labels that series of this name may carry, any for unknown metrics."""
        try:
            return super().labels(sample) | self.target_labels
        except ServescopeError:
            if sample.startswith(_OURS) and sample not in self.known and not sample.startswith(self.own or ("\0",)):
                raise
            return _EVERY_LABEL


@dataclass(frozen=True, kw_only=True)
class Expression:
    """One expression of a file; `place` is the rule's name or the panel's title, `legend` Grafana's format."""

    place: str
    text: str
    legend: str = ""
    # A label lookup queries series, not values.
    lookup: bool = False


@dataclass
class Contents:
    """The contents of one file: expressions, recorded series, and how many expressions could not be filled in."""

    expressions: list[Expression] = field(default_factory=list)
    recorded: set[str] = field(default_factory=set)
    unfilled: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The findings, a line each; the unreadable files, a line each; and what was checked."""

    findings: tuple[str, ...]
    unreadable: tuple[str, ...]
    files: int
    expressions: int
    unfilled: int


def lint(paths: Sequence[Path], settings: Settings, *, own: Sequence[str] = (), labels: Sequence[str] = ()) -> Report:
    """Lint rule files and dashboards; in directories, all of them.

    `own` are prefixes of the application's metrics that start with `ray_`, `labels` those that the user's Prometheus
    adds to every series, besides `TARGET_LABELS`.
    """
    found: dict[Path, Contents] = {}
    unreadable = []
    for path, named in _files(paths):
        try:
            contents = read(path)
        except ServescopeError as error:
            unreadable.append(str(error))
            continue
        if contents is not None:
            found[path] = contents
        elif named:
            unreadable.append(f"{path}: neither rules (groups with rules) nor a dashboard (panels)")
    if not found and not unreadable:
        unreadable.append(f"{', '.join(map(str, paths))}: no rule file (*.yml) and no dashboard (*.json)")
    base = Vocabulary.of(settings)
    vocabulary = ReadersVocabulary(
        cluster_label=base.cluster_label,
        recorded=base.recorded,
        extra_labels=base.extra_labels,
        own=tuple(own),
        known=frozenset(name for contents in found.values() for name in contents.recorded),
        target_labels=frozenset((*TARGET_LABELS, *labels)),
    )
    findings = [
        f"{path}: {expression.place}: {finding.rule}: {_one_line(finding)}"
        for path, contents in found.items()
        for expression in contents.expressions
        for finding in check_against(vocabulary, expression.text, legend=expression.legend)
        if not (expression.lookup and finding.rule in ("counter", "event-gauge"))
    ]
    return Report(
        findings=tuple(dict.fromkeys(findings)),
        unreadable=tuple(unreadable),
        files=len(found),
        expressions=sum(len(contents.expressions) for contents in found.values()),
        unfilled=sum(contents.unfilled for contents in found.values()),
    )


def _one_line(finding: Finding) -> str:
    """The message on one line, truncated if it quotes a long expression."""
    text = " ".join(finding.message.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file to check, and whether it was named explicitly."""
    for path in paths:
        if path.is_dir():
            yield from ((inside, False) for inside in sorted(path.rglob("*")) if inside.suffix in _SUFFIXES)
        else:
            yield path, True


def read(path: Path) -> Contents | None:
    """The contents of a rule file or a dashboard; None if it is well-formed but neither.

    Raises:
        ServescopeError: it cannot be read, or is not YAML or JSON; the message is one line that names the file.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        documents = [json.loads(text)] if path.suffix == ".json" else list(yaml.safe_load_all(text))
    except OSError as error:
        raise ServescopeError(f"{path}: cannot read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ServescopeError(f"{path}: {' '.join(str(error).split())}") from None
    contents, known = Contents(), False
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        # Grafana's API wraps a dashboard, the Prometheus operator the groups of rules.
        inner = next(
            (document[key] for key in ("dashboard", "spec") if isinstance(document.get(key), Mapping)), document
        )
        if isinstance(inner.get("groups"), list):
            known = True
            for rule in _mappings(group.get("rules") for group in _mappings([inner["groups"]])):
                _read_rule(rule, contents)
        elif isinstance(inner.get("panels", inner.get("rows")), list):
            known = True
            _Dashboard(inner, contents).read()
    return contents if known else None


def _mappings(lists: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The mappings in lists; anything else is skipped."""
    for one in lists:
        if isinstance(one, list):
            yield from (item for item in one if isinstance(item, Mapping))


def _read_rule(rule: Mapping[str, Any], contents: Contents) -> None:
    name = str(rule.get("alert") or rule.get("record") or rule.get("title") or "a rule without a name")
    if "record" in rule:
        contents.recorded.add(str(rule["record"]))
    if "expr" in rule:
        contents.expressions.append(Expression(place=name, text=str(rule["expr"])))
    for query in _mappings([rule.get("data")]):  # a Grafana-managed rule
        model = query.get("model")
        if isinstance(model, Mapping) and "expr" in model and _type_of(model.get("datasource")) in ("", "prometheus"):
            contents.expressions.append(Expression(place=name, text=str(model["expr"])))


def _type_of(datasource: Any) -> str:
    """The data source type of a query; "" if it has none."""
    return str(datasource.get("type") or "") if isinstance(datasource, Mapping) else ""


# ---------------------------------------------------------------------------------------------------------------------
# Dashboards

_QUOTED_OR_VARIABLE = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)"""
    r"|\$\{(?P<braced>\w+)(?:[:.][^}]*)?\}|\$(?P<plain>[A-Za-z_]\w*)|\[\[(?P<old>\w+)(?::\w+)?\]\]"
)
_LOOKUP = re.compile(r"label_values\(\s*(?P<series>.+),\s*(?P<label>\w+)\s*\)", re.DOTALL)
_QUERY_RESULT = re.compile(r"query_result\((?P<query>.+)\)", re.DOTALL)
# Grafana's numeric variables; its durations are the lint's own macros.
_FIGURES = {"__range_s": "60", "__range_ms": "60000", "__interval_ms": "60000"}


class _Dashboard:
    """Reads one dashboard's expressions with its own variables filled in."""

    def __init__(self, document: Mapping[str, Any], contents: Contents) -> None:
        self.document, self.contents = document, contents
        self.variables = {
            str(variable.get("name")): variable for variable in _mappings([self._list("templating")]) if variable
        }

    def _list(self, part: str) -> Any:
        inside = self.document.get(part)
        return inside.get("list") if isinstance(inside, Mapping) else None

    def read(self) -> None:
        """Panels, including those in rows of either form; annotations; variables that query Prometheus."""
        rows = list(_mappings([self.document.get("rows")]))
        self._read_panels([self.document.get("panels"), *(row.get("panels") for row in rows)])
        for mark in _mappings([self._list("annotations")]):
            target = mark.get("target")
            expr = mark.get("expr") or (target.get("expr") if isinstance(target, Mapping) else None)
            if expr and self._prometheus(mark.get("datasource")):
                self._add(f"annotation {mark.get('name')}", expr)
        for name, variable in self.variables.items():
            query = variable.get("query")
            text = query.get("query") if isinstance(query, Mapping) else query
            if (
                variable.get("type") == "query"
                and isinstance(text, str)
                and self._prometheus(variable.get("datasource"))
            ):
                self._add_lookup(f"variable {name}", text)

    def _read_panels(self, lists: Iterable[Any]) -> None:
        for panel in _mappings(lists):
            self._read_panels([panel.get("panels")])
            title = str(panel.get("title") or f"panel {panel.get('id')}")
            for target in _mappings([panel.get("targets")]):
                if target.get("expr") and self._prometheus(target.get("datasource") or panel.get("datasource")):
                    self._add(title, target["expr"], legend=str(target.get("legendFormat") or ""))

    def _prometheus(self, datasource: Any) -> bool:
        """Whether a query goes to Prometheus, which is the default."""
        name = datasource.get("uid") if isinstance(datasource, Mapping) else datasource
        match = _QUOTED_OR_VARIABLE.fullmatch(str(name or ""))
        variable = self.variables.get(match["braced"] or match["plain"] or match["old"] or "") if match else None
        kind = _type_of(datasource) or (str(variable.get("query")) if variable else "")
        return kind in ("", "prometheus")

    def _add_lookup(self, place: str, query: str) -> None:
        lookup, result = _LOOKUP.fullmatch(query.strip()), _QUERY_RESULT.fullmatch(query.strip())
        if lookup:
            self._add(place, f"group by ({lookup['label']}) ({lookup['series']})", lookup=True)
        elif result:
            self._add(place, result["query"])

    def _add(self, place: str, text: str, *, legend: str = "", lookup: bool = False) -> None:
        missing = False

        def filled(match: re.Match[str]) -> str:
            nonlocal missing
            name = match["braced"] or match["plain"] or match["old"]
            if name is None or (name not in self.variables and name not in _FIGURES):
                return match[0]  # a quoted text, one of Grafana's durations, or an undefined variable
            value = _FIGURES.get(name) or _value(self.variables[name])
            missing = missing or not value
            return value

        text = _QUOTED_OR_VARIABLE.sub(filled, str(text))
        if missing:
            self.contents.unfilled += 1
        else:
            legend = _QUOTED_OR_VARIABLE.sub("", legend)
            self.contents.expressions.append(Expression(place=place, text=text, legend=legend, lookup=lookup))


def _value(variable: Mapping[str, Any]) -> str:
    """The value of a variable: the one saved with the dashboard, or its first option; "" for none."""
    current = variable.get("current")
    chosen = current.get("value") if isinstance(current, Mapping) else None
    values = [str(value) for value in (chosen if isinstance(chosen, list) else [chosen]) if value]
    if variable.get("type") in ("interval", "custom", "constant", "textbox") and isinstance(variable.get("query"), str):
        values += [part.strip().partition(" : ")[2] or part.strip() for part in variable["query"].split(",")]
    values += [str(option.get("value") or "") for option in _mappings([variable.get("options")])]
    for value in values:
        if value.startswith("$__auto") or value == "auto":
            return "1m"
        if value and value not in ("$__all", "All"):
            return value
    return ""
