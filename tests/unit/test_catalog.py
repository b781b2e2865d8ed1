"""The catalogue against real scrapes of Ray 2.60.0."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from servescope import catalog
from servescope.catalog import BY_NAME, METRICS
from servescope.catalog.model import Kind, Origin, Source
from servescope.errors import ServescopeError
from servescope.pages import metrics as metrics_page
from servescope.settings import Settings

SCRAPES = Path(__file__).parents[1] / "fixtures/metrics"


def scraped() -> dict[str, tuple[str, set[str]]]:
    """Exported family name -> kind and all its labels, over all sample scrapes; counters with _total."""
    kinds: dict[str, str] = {}
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(SCRAPES.iterdir()):
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                name = family.name if family.type == "histogram" else sample.name
                kinds[name] = family.type
                labels[name] |= set(sample.labels)
    return {name: (kind, labels[name]) for name, kind in kinds.items()}


SCRAPED = scraped()


def test_the_scrapes_hold_what_they_should():
    assert sum(name.startswith("ray_serve_") for name in SCRAPED) == 75
    assert SCRAPED["ray_serve_num_http_requests_total"][0] == "counter"


def test_there_are_84_serve_families_and_no_name_twice():
    assert sum(name.startswith("ray_serve_") for name in BY_NAME) == 84
    assert len(BY_NAME) == len(METRICS)


@pytest.mark.parametrize("name", sorted(name for name in SCRAPED if name.startswith("ray_serve_")))
def test_every_serve_family_is_known(name):
    assert name in BY_NAME


@pytest.mark.parametrize("name", sorted(set(SCRAPED) & set(BY_NAME)))
def test_kind_and_labels_are_those_of_the_scrape(name):
    kind, labels = SCRAPED[name]
    entry = BY_NAME[name]
    assert entry.kind.value == kind
    assert labels <= catalog.allowed_labels(entry)
    assert set(entry.labels) <= labels | {"GpuUuid"}


def test_what_needs_nothing_special_is_in_the_scrapes():
    """An entry that claims to be always there must have been seen, or the claim is a guess."""
    unseen = [
        metric.name
        for metric in METRICS
        if metric.source in (Source.NODE_AGENT, Source.AUTOSCALER, Source.DASHBOARD)
        and not metric.needs
        and metric.name not in SCRAPED
    ]
    # Nothing was reconfigured while these scrapes were taken; the live test sees it.
    assert unseen == ["ray_serve_replica_reconfigure_latency_ms"]


def test_every_entry_speaks_in_sentences():
    for metric in METRICS:
        assert metric.help.endswith("."), metric.name
        assert metric.unit, metric.name
        assert not metric.trap or metric.trap.endswith("."), metric.name
        # the Collector leaves the suffix off its own counters
        named = metric.name.endswith("_total") or metric.name.startswith("otelcol_")
        assert metric.kind is not Kind.COUNTER or named, metric.name


def test_event_driven_gauges_are_those_that_were_seen_to_vanish():
    assert {metric.name for metric in METRICS if metric.event_driven} == {
        "ray_serve_num_ongoing_http_requests",
        "ray_serve_num_ongoing_grpc_requests",
        "ray_serve_num_scheduling_tasks",
        "ray_serve_num_scheduling_tasks_in_backoff",
        "ray_serve_request_router_queue_len",
        "ray_serve_reserved_slots_active",
        "ray_serve_batch_queue_length",
        "ray_serve_long_poll_pending_clients",
    }


@pytest.mark.parametrize("origin", Origin)
def test_every_origin_has_its_labels(origin):
    assert origin.value, "of an empty value Python 3.11.2 makes an object()"
    assert isinstance(origin.labels, tuple)
    assert all(isinstance(label, str) for label in origin.labels)


def test_every_metric_allows_the_labels_of_its_origin():
    assert [metric.name for metric in METRICS if not set(metric.origin.labels) < catalog.allowed_labels(metric)] == []
    assert catalog.allowed_labels(BY_NAME["up"]) == {"job", "instance"}


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(ServescopeError, match="did you mean ray_serve_num_http_requests_total"):
        catalog.metric("ray_serve_num_http_requests")
    with pytest.raises(ServescopeError, match="is not in the metric catalogue"):
        catalog.metric("zzz")


def test_samples_of_histograms_belong_to_their_family():
    family = BY_NAME["ray_serve_http_request_latency_ms"]
    for suffix in ("bucket", "count", "sum"):
        assert catalog.metric_of_sample(f"{family.name}_{suffix}") is family
    assert "le" in catalog.allowed_labels(family)
    # not a histogram, although its name ends as if it were one
    assert catalog.metric_of_sample("ray_node_cpu_count").kind is Kind.GAUGE
    with pytest.raises(ServescopeError):
        catalog.metric_of_sample("ray_serve_application_status_bucket")


def test_the_page_names_every_metric():
    page = metrics_page.render(Settings())
    assert all(f"`{metric.name}`" in page for metric in METRICS)
    assert page == metrics_page.render(Settings())
