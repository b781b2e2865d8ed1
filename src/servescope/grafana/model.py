"""What a dashboard is made of, as plain data: queries, columns, panels, rows, variables, annotations."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from servescope.json_types import Json

SCHEMA_VERSION = 42  # the last of Grafana's v1 schema; Grafana 10 to 13 read it

COLUMNS = 24

# The panel types that every Grafana from 10 to 13 has built in.
PANEL_TYPES = frozenset(
    {"timeseries", "stat", "table", "state-timeline", "heatmap", "bargauge", "text", "row", "logs", "alertlist"}
)

PROMETHEUS: Json = {"type": "prometheus", "uid": "${datasource}"}

RATES = ("reqps", "ops", "Bps")

LOKI: Json = {"type": "loki", "uid": "${logs}"}

TEMPO: Json = {"type": "tempo", "uid": "${traces}"}


@dataclass(frozen=True)
class Query:
    """One PromQL target: the expression, the legend format that names its series, and whether to ask for exemplars."""

    expr: str
    legend: str = ""
    _: KW_ONLY
    instant: bool = False
    exemplar: bool = False


@dataclass(frozen=True)
class Threshold:
    """A colour from a value on; the first step of a list has no value (None) and holds below the others."""

    value: float | None
    color: str


@dataclass(frozen=True)
class Link:
    """A link from a series or a cell; the url may hold Grafana's variables."""

    title: str
    url: str


@dataclass(frozen=True)
class Column:
    """One column of a table: a label's name, or `Value #A` for the figure of the first query, and so on.

    `states` are values, each with the text and the colour that are shown in its place.
    """

    field: str
    title: str
    _: KW_ONLY
    unit: str = ""
    decimals: int | None = None
    thresholds: tuple[Threshold, ...] = ()
    links: tuple[Link, ...] = ()
    states: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel before it has a place: `model` is its JSON without `id` and `gridPos`.

    `key` is what the panel's id is made of (layout.panel_id): its title, or the title that it had when somebody first
    could write down a link to it. `absent` is "" or the reason why the panel may be empty on a plain machine; Grafana
    shows it while there is no data. `queries` are PromQL; a panel of logs has `log_queries` instead, LogQL for the Loki
    of the variable `logs`.
    """

    title: str
    key: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int
    height: int
    absent: str
    model: Json
    log_queries: tuple[Query, ...] = ()

    @property
    def type(self) -> str:
        """Grafana's panel type."""
        kind: str = self.model["type"]
        return kind


@dataclass(frozen=True, kw_only=True)
class Row:
    """A titled row of panels; a collapsed one sends no query until it is opened. `key` as of a panel."""

    title: str
    key: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


@dataclass(frozen=True)
class Variable:
    """A template variable as JSON."""

    name: str
    model: Json


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A query whose series mark the graphs wherever they have a value."""

    name: str
    expr: str
    title: str
    text: str
    color: str
