"""The contents of a page as plain data. Texts are unescaped; the page escapes them. Times are unix milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from servescope.clients.model import LogRecord, TraceSummary
from servescope.grafana.templating import Selection
from servescope.json_types import Json
from servescope.report.queries import Window
from servescope.report.waterfall import Waterfall


@dataclass(kw_only=True)
class View:
    """One panel, ready for the page: `kind` says which of the other fields hold its content.

    `number` is the panel's id in Grafana, by which links name it.
    """

    id: str
    number: int
    kind: str
    title: str
    description: str
    width: int
    height: int
    figure: Json | None = None  # plots: the input of the page's script
    legend: list[Json] = field(default_factory=list)
    items: list[Json] = field(default_factory=list)  # stat, bargauge
    columns: list[str] = field(default_factory=list)  # table
    cells: list[list[Json]] = field(default_factory=list)
    lines: list[LogRecord] = field(default_factory=list)  # logs
    markdown: str = ""
    empty: str = ""  # why nothing is shown
    note: str = ""
    queries: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A row of a dashboard with its panels; `numbers` are those of all of them, also while none is made yet."""

    title: str
    panels: list[View]
    collapsed: bool
    _: KW_ONLY
    numbers: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An annotation: from and to in unix milliseconds (equal for a point in time)."""

    title: str
    text: str
    color: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A dashboard with all its panels as they were in the window."""

    uid: str
    title: str
    description: str
    sections: list[Section]
    marks: list[Mark]
    selections: Mapping[str, Selection]
    options: dict[str, Sequence[str]]  # the options of each variable


@dataclass(frozen=True, kw_only=True)
class FiredAlert:
    """An alert that was pending or firing in the window: its labels, texts, and states over time."""

    name: str
    severity: str
    labels: str
    summary: str
    runbook_url: str  # "" if it is not an absolute URL
    runbook: str  # the page in Markdown, "" for an alert of others
    runs: list[tuple[int, int, str]]  # unix milliseconds from and to, "pending" or "firing"

    @property
    def firing_from(self) -> int | None:
        """When it first fired, unix milliseconds."""
        return min((start for start, _, state in self.runs if state == "firing"), default=None)

    def state(self, at: int) -> str:
        """At the end of the window (unix ms): `firing`, `resolved` (it fired before), `pending`, or `passed` (it was
        pending before and never fired).
        """
        now = {state for _, end, state in self.runs if end >= at}
        if self.firing_from is None:
            return "pending" if now else "passed"
        return "firing" if "firing" in now else "resolved"


@dataclass(frozen=True, kw_only=True)
class Traces:
    """The slowest and the failed traces of a window; of those around the first alert the spans and lines too."""

    source: str
    slowest: list[TraceSummary]
    failing: list[TraceSummary]
    waterfalls: list[Waterfall] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The lines around a time (unix ms); `left_out` counts those that did not fit."""

    source: str
    around: int
    lines: list[LogRecord]
    left_out: int


@dataclass(kw_only=True)
class Report:
    """Everything on the page."""

    window: Window
    created: float
    source: str
    boards: list[Board]
    alerts: list[FiredAlert]
    versions: dict[str, str]
    alerts_known: bool = True  # False where the store did not say which alerts there were
    traces: Traces | None = None
    logs: Logs | None = None
    problems: list[str] = field(default_factory=list)
