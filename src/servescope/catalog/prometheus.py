"""Metrics of Prometheus itself and of the blackbox exporter."""

from __future__ import annotations

from servescope.catalog.model import GAUGE, Metric, Origin, Source, group

PROMETHEUS = group(
    "Prometheus",
    Metric(
        name="up",
        kind=GAUGE,
        unit="1",
        labels=(),
        help="1 while the target can be scraped.",
        trap="A dead Ray node leaves the service discovery file, so its series ends instead of falling to 0.",
    ),
    Metric(name="scrape_duration_seconds", kind=GAUGE, unit="s", labels=(), help="Duration of the last scrape."),
    Metric(name="scrape_samples_scraped", kind=GAUGE, unit="samples", labels=(), help="Samples in the last scrape."),
    Metric(
        name="prometheus_rule_group_rules",
        kind=GAUGE,
        unit="rules",
        labels=("rule_group",),
        help="Rules of a loaded group; rule_group is FILE;GROUP.",
        needs="a Prometheus that scrapes itself",
    ),
    Metric(
        name="ALERTS",
        kind=GAUGE,
        unit="1",
        labels=("alertname", "alertstate", "severity", "application", "deployment"),
        help="Pending and firing alerts.",
    ),
    source=Source.PROMETHEUS,
    origin=Origin.NONE,
)

PROBES = group(
    "Probes",
    Metric(
        name="probe_success",
        kind=GAUGE,
        unit="1",
        labels=(),
        help="1 while a probe of the blackbox exporter succeeds; instance is the probed address.",
        needs="a blackbox exporter that probes /-/healthz",
    ),
    source=Source.BLACKBOX,
    origin=Origin.NONE,
)
