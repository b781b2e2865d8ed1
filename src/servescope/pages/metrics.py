"""docs/metrics.md, from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from servescope.catalog import METRICS
from servescope.catalog.model import Metric
from servescope.pages.markdown import table
from servescope.promql.figures import FIGURES
from servescope.promql.signals import SIGNALS
from servescope.settings import Settings

_HEADINGS = ("metric", "kind", "unit", "labels", "since", "description")

_INTRO = """\
# Metrics

Every metric that servescope knows, generated from `src/servescope/catalog/`. Measured on Ray 2.60.0, compared with
2.54.1, 2.40.0 and 2.9.3. A live test fails when a real Serve exports a Serve metric that is not here, or no longer
exports one that is.

Three traps apply to all of them:

- **Histogram sums are inaccurate.** Ray's node agent rebuilds each histogram from the midpoints of its buckets, so
  `rate(x_sum) / rate(x_count)` is not an average. `_bucket` and `_count` are exact.
- **Gauges expire** 20 s after their last update. Those marked *event-driven* are updated only when something changes:
  they are absent when nothing happens, and also while requests hang.
- **Counter series first appear with a non-zero value.** Before its first event a series does not exist, and its first
  sample is already 1 or more, so `increase()` and `rate()` miss the first event. Counters of dead replicas remain until
  the node's agent restarts.

*Labels* are those of the metric itself. Serve's metrics also carry `SessionName`, `NodeAddress`, `Version`, `Component`
and `WorkerId`, node metrics `ip`, `IsHeadNode` and `RayNodeType`, and all of them what Prometheus adds. *Since* is the
first Ray version with this name and kind. `servescope_...` metrics come from the state exporter
([capacity.md](capacity.md)), which reads Serve's REST API. *Needs* is what a plain machine with default
settings lacks to show it.
"""

_RECORDED = """\
## Recorded series

What the rules record from these: rates for the dashboards in `dashboards/recorded`, counts over a whole window for the
alerts. All carry the labels of the cluster too. Those of [objectives](slo.md) are described there.
"""


def render(settings: Settings) -> str:
    """The page as Markdown."""
    lines = [_INTRO]
    for group, metrics in groupby(METRICS, key=lambda metric: metric.group):
        lines += [f"## {group}", "", *table(_HEADINGS, map(_cells, metrics)), ""]
    lines += [_RECORDED, *table(("series", "labels", "meaning"), _recorded(settings))]
    return "\n".join(lines).rstrip() + "\n"


def _recorded(settings: Settings) -> Iterator[tuple[str, ...]]:
    series = [(signal.name(settings), signal.labels, signal.help) for signal in SIGNALS]
    series += [(figure.record, figure.labels, figure.help) for figure in FIGURES]
    for name, labels, meaning in series:
        yield f"`{name}`", ", ".join(f"`{label}`" for label in labels), meaning


def _cells(metric: Metric) -> tuple[str, ...]:
    notes = [metric.help]
    if metric.appears != "always":
        notes.append(f"*Appears:* {metric.appears}.")
    if metric.trap:
        notes.append(f"*Trap:* {metric.trap}")
    if metric.needs:
        notes.append(f"*Needs:* {metric.needs}.")
    labels = [f"`{label}`" for label in metric.labels]
    labels += [f"`{label}` (since {version})" for label, version in metric.newer_labels.items()]
    labels += [f"`{label}` (before {version})" for label, version in metric.older_labels.items()]
    own = [label for label in labels if label.strip("`") not in metric.newer_labels]
    return (f"`{metric.name}`", metric.kind.value, metric.unit, ", ".join(own), metric.since, " ".join(notes))
