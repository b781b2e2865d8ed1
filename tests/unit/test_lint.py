"""Each rule of the lint has an expression that breaks it, and one beside it that is right."""

from __future__ import annotations

import pytest

from servescope.promql.lint import check, expand_macros
from servescope.settings import Settings

SETTINGS = Settings()

BROKEN = [
    ("syntax", "sum by (application (up)", ""),
    ("variable", "rate(ray_serve_num_http_requests_total[$window])", ""),
    ("variable", "topk($n, up)", ""),
    ("metric", "ray_serve_request_latency_ms_bucket", ""),
    ("metric", '{job="ray"}', ""),
    ("label", 'ray_serve_application_status{deployment="D"}', ""),
    ("label", "sum by (replica) (rate(ray_serve_num_http_requests_total[$__rate_interval]))", ""),
    ("label", "up + on (deployment) up", ""),
    (
        "sum",
        "rate(ray_serve_http_request_latency_ms_sum[1m]) / rate(ray_serve_http_request_latency_ms_count[1m])",
        "",
    ),
    ("event-gauge", "sum(ray_serve_num_ongoing_http_requests)", ""),
    ("increase", "sum(increase(ray_serve_deployment_replica_starts_total[10m]))", ""),
    ("increase", "increase(sum(ray_serve_deployment_replica_starts_total)[10m:5s])", ""),
    ("counter", "sum(ray_serve_deployment_replica_starts_total)", ""),
    ("counter", "delta(ray_serve_deployment_replica_starts_total[10m])", ""),
    ("counter", "group(ray_serve_deployment_replica_starts_total > 5)", ""),
    ("gauge-rate", "rate(ray_serve_controller_num_control_loops[1m])", ""),
    ("actors", "sum(ray_actors)", ""),
    ("actors", 'sum(ray_actors{Source=~"gcs|executor"})', ""),
    ("http-errors", "sum(rate(ray_serve_num_http_error_requests_total[1m]))", ""),
    ("failures", "sum(rate(ray_serve_deployment_request_counter_total[1m]))", ""),
    ("grouping", "sum by (WorkerId) (ray_serve_deployment_queued_queries)", ""),
    ("grouping", "max by (SessionName) (ray_node_cpu_utilization)", ""),
    (
        "quantile",
        "histogram_quantile(0.9, sum by (application) (rate(ray_serve_http_request_latency_ms_bucket[1m])))",
        "",
    ),
    ("join", "up and on (instance) ray_node_cpu_utilization", ""),
    ("join", "ray_serve_application_status unless on (application) ray_serve_deployment_status", ""),
    ("join", "up * ignoring (job, ray_io_cluster) up", ""),
    (
        "join",
        "max by (application) (ray_serve_autoscaling_target_replicas)"
        " - sum by (application) (ray_serve_deployment_replica_healthy)",
        "",
    ),
    ("legend", "sum by (application) (ray_serve_application_status)", "{{application}} {{deployment}}"),
    (
        "legend",
        "sum by (application, deployment) (ray_serve_deployment_status)",
        "{{application, deployment}}",
    ),
]

RIGHT = [
    ("sum(rate(ray_serve_num_http_requests_total[$__rate_interval]))", ""),
    ('sum(rate(ray_serve_num_http_requests_total{application=~"$application"}[$__rate_interval]))', ""),
    ("max_over_time(ray_serve_num_ongoing_http_requests[1m])", "{{node_ip_address}}"),
    ("deriv(ray_serve_controller_num_control_loops[1m])", ""),
    ('sum by (State) (ray_actors{Source="gcs"})', "{{State}}"),
    ('sum(rate(ray_serve_num_http_error_requests_total{error_code=~"5.."}[1m]))', ""),
    (
        "sum by (deployment) (ray_serve_deployment_replica_starts_total"
        " - ray_serve_deployment_replica_starts_total offset 5m >= 0)",
        "{{deployment}}",
    ),
    (
        "histogram_quantile(0.9, sum by (le, route) (rate(ray_serve_http_request_latency_ms_bucket[1m])))",
        "{{route}}",
    ),
    ('label_replace(up, "node", "$1", "instance", "(.*):.*")', "{{node}}"),
    ("up{ray_io_cluster='c'}", "{{ray_io_cluster}}"),
    ("up and on (ray_io_cluster, instance) ray_node_cpu_utilization", ""),
    (
        "max by (ray_io_cluster, application) (ray_serve_autoscaling_target_replicas)"
        " - sum by (ray_io_cluster, application) (ray_serve_deployment_replica_healthy)",
        "",
    ),
    (
        "sum by (application) (ray_serve_replica_processing_queries)"
        " / on (application) sum by (application) (ray_serve_deployment_replica_healthy)",
        "",
    ),
    ("topk(3, serve_deployment:queued_requests:sum)", "{{deployment}}"),
    ("group(last_over_time(ray_serve_deployment_replica_starts_total[1m]))", ""),
]


@pytest.mark.parametrize(("rule", "expression", "legend"), BROKEN)
def test_each_rule_finds_what_breaks_it(rule, expression, legend):
    assert rule in {finding.rule for finding in check(expression, SETTINGS, legend=legend)}


@pytest.mark.parametrize(("expression", "legend"), RIGHT)
def test_right_expressions_have_no_finding(expression, legend):
    assert check(expression, SETTINGS, legend=legend) == []


def test_a_rule_that_holds_for_one_minute_only_is_found_at_an_hour():
    """Both values of the macros are tried: this one parses at 1m and at 1h, and is wrong in both."""
    findings = check("increase(up[$__range])", SETTINGS)
    assert [finding.rule for finding in findings] == ["increase"]


def test_macros_do_not_eat_each_other():
    text = "a[$__rate_interval] b[$__interval] c[${__range}]"
    assert expand_macros(text, "1m") == "a[1m] b[1m] c[1m]"


def test_the_cluster_label_follows_the_settings():
    other = Settings(cluster_label="ray_cluster")
    assert check('up{ray_cluster="c"}', other) == []
    assert [finding.rule for finding in check('up{ray_io_cluster="c"}', other)] == ["label"]
