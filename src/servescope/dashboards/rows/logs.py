"""The rows of logs: lines in Loki of a deployment, of a request, and of Ray itself. Collapsed, so that they send no
query where there is no Loki; the fields are those of `fluentbit/ray.lua` and `otel/logs.yaml`.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from servescope.grafana import log_panels, panels
from servescope.grafana.colors import PALETTE
from servescope.grafana.model import Column, Link, Panel, Row

CLUSTER = 'job="ray", cluster=~"$cluster"'
DEPLOYMENT = f'{CLUSTER}, application=~"$application", deployment=~"$deployment"'
TROUBLE = 'level=~"WARNING|ERROR|CRITICAL|FATAL"'

# IDs, addresses and numbers differ from line to line; without them the first lines of one kind are the same.
_VARYING = (
    ("(?s)\\n.*", ""),
    ("[0-9a-f]{8}[0-9a-f-]{20,}", "<id>"),
    ("0x[0-9a-f]+", "<address>"),
    ("[0-9]+([.][0-9]+)*", "<n>"),
)


def _pattern() -> str:
    """A stage that puts the message pattern into the label `text`; regexReplaceAll takes pattern, text, replacement."""
    call = "(trunc 300 __line__)"
    for varying, name in _VARYING:
        call = f'(regexReplaceAll "{varying}" {call} "{name}")'
    return f"label_format text=`{{{{ trunc 160 {call} }}}}`"


LEVEL_COLORS = {
    "DEBUG": PALETTE.muted,
    "INFO": PALETTE.neutral,
    "WARNING": PALETTE.at_risk,
    "ERROR": PALETTE.failing,
    "CRITICAL": PALETTE.failing,
    "FATAL": PALETTE.failing,
    "UNKNOWN": PALETTE.muted,
}


def _explore(datasource: str, query: dict[str, str], *, start: str, end: str) -> str:
    """The address of Grafana's Explore with one query; `${...}` stays as it is for Grafana to replace."""
    kind = "loki" if "expr" in query else "tempo"
    pane = {
        "datasource": f"${{{datasource}}}",
        "queries": [{"refId": "A", "datasource": {"type": kind, "uid": f"${{{datasource}}}"}, **query}],
        "range": {"from": start, "to": end},
    }
    text = quote(json.dumps({"a": pane}, separators=(",", ":")), safe="${}_.:,")
    return f"/explore?schemaVersion=1&panes={text}"


# From a panel to the logs of its time range, and from a line to its trace.
TO_LOGS = Link(
    "Logs of this time range",
    _explore(
        "logs",
        {"expr": '{job="ray", application=~"${application:pipe}", deployment=~"${deployment:pipe}"}'},
        start="${__from}",
        end="${__to}",
    ),
)
_TO_TRACE = Link(
    "Trace of this request",
    _explore("traces", {"queryType": "traceql", "query": "${__value.raw}"}, start="${__from}", end="${__to}"),
)
_TO_REQUEST = Link(
    "All log lines of this request",
    "/d/servescope-deployment?${cluster:queryparam}&${application:queryparam}&${deployment:queryparam}"
    "&var-request_id=${__value.raw}&${__url_time_range}",
)


def deployment_rows() -> list[Row]:
    """For servescope-deployment: one request across proxy and replicas, and the deployment's lines."""
    return [
        panels.row("Logs by request ID", _request(), collapsed=True),
        panels.row("Logs", _deployment(), collapsed=True),
    ]


def cluster_row() -> Row:
    """For servescope-cluster: the log lines of Ray itself, by level and component."""
    every = f"{{{CLUSTER}}}"
    trouble = f"{{{CLUSTER}, {TROUBLE}}}"
    ray_itself = f'{{{CLUSTER}, {TROUBLE}, component!~"serve_replica|worker"}}'
    return panels.row(
        "Logs by level and component",
        [
            _by(
                "Log lines by level",
                description="Log lines of the deployment in each interval, by level.",
                selector=every,
                label="level",
                colors=LEVEL_COLORS,
            ),
            _by(
                "Warnings and errors by component",
                description=(
                    "Warnings and errors in each interval, by component. raylet, gcs_server and dashboard are Ray's "
                    "own; serve_controller deploys and scales; serve_proxy and serve_replica handle requests."
                ),
                selector=trouble,
                label="component",
            ),
            _patterns(ray_itself, ("component",)),
            log_panels.logs(
                "Ray system warnings and errors",
                description="Warnings and errors of all components except replicas and workers, newest first.",
                expr=ray_itself,
                height=14,
            ),
        ],
        collapsed=True,
    )


def _by(title: str, *, description: str, selector: str, label: str, colors: dict[str, str] | None = None) -> Panel:
    expr = f"sum by ({label}) (count_over_time({selector} [$__interval]))"
    return log_panels.log_timeseries(
        title, description=description, queries=[panels.query(expr, f"{{{{{label}}}}}")], colors=colors
    )


def _patterns(selector: str, by: tuple[str, ...]) -> Panel:
    labels = ", ".join((*by, "level", "text"))
    expr = f"topk(25, sum by ({labels}) (count_over_time({selector} | {_pattern()} [$__range])))"
    columns = [Column(label, label.capitalize()) for label in (*by, "level")]
    return log_panels.log_table(
        "Error patterns",
        description=(
            "Warnings and errors of the time range, grouped by message without IDs and numbers, most frequent first."
        ),
        queries=[panels.query(expr, instant=True)],
        columns=[*columns, Column("text", "Pattern"), Column("Value #A", "Log lines", unit="short", decimals=0)],
        sort_by="Log lines",
        width=24,
        height=9,
    )


def _request() -> list[Panel]:
    request = f'{{{CLUSTER}}} | request_id!="" | request_id="$request_id"'
    return [
        log_panels.logs(
            "Log lines by request ID",
            description=(
                "All log lines of proxies and replicas for the request ID typed into the box above (the x-request-id "
                "header of the response), across deployments. Empty while the box is empty."
            ),
            expr=request,
            height=10,
        ),
        log_panels.log_lines_table(
            "Failed and slow requests",
            description=(
                "Access log lines with a 5xx, 429, 499 or an error, or slower than one second. Click a request ID to "
                "see all its log lines, or a trace ID to open its trace."
            ),
            expr=(
                f'{{{CLUSTER}, application=~"$application|", component=~"serve_proxy|serve_replica"}} '
                '| log_type="access" | status=~"5..|429|499|ERROR|CANCELLED|INTERNAL|UNAVAILABLE" or latency_ms > 1000'
            ),
            columns=[
                Column("Time", "Time"),
                Column("component", "Component"),
                Column("deployment", "Deployment"),
                Column("status", "Status"),
                Column("latency_ms", "Latency (ms)"),
                Column("route", "Route"),
                Column("request_id", "Request", links=(_TO_REQUEST,)),
                Column("trace_id", "Trace", links=(_TO_TRACE,)),
            ],
        ),
    ]


def _deployment() -> list[Panel]:
    selector = f"{{{DEPLOYMENT}}}"
    return [
        _by(
            "Log lines by level",
            description="Log lines written in each interval, by level.",
            selector=selector,
            label="level",
            colors=LEVEL_COLORS,
        ),
        log_panels.log_timeseries(
            "Log events by type",
            description=(
                "Back-pressure by the deployment that dropped the call, crashed and unhealthy replicas, scale-ups and "
                "scale-downs, counted from the log lines themselves. Compare with Ray's metrics."
            ),
            queries=[
                panels.query(
                    f'sum by (event, deployment) (count_over_time({selector} | event!="" [$__interval]))',
                    "{{deployment}} {{event}}",
                )
            ],
        ),
        _patterns(f"{{{DEPLOYMENT}, {TROUBLE}}}", ("deployment",)),
        log_panels.logs(
            "Log lines",
            description="Log lines of the deployment, with the controller's decisions about it, newest first.",
            expr=selector,
            height=14,
        ),
    ]
