"""The checks of `make smoke`: each returns what it found in one backend, in a few words, or raises NotYet.

A check is one small function in `CHECKS`, with the components that it needs.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from demo.app import images
from demo.smoke.backends import Backends, NotYet, Request, need
from demo.smoke.grafana import ThroughGrafana
from servescope.clients import otlp_files
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.grafana.templating import Interpolation
from servescope.report.check import check_board
from servescope.report.queries import Window, panels_of, select_variables
from servescope.settings import Settings

SETTINGS = Settings()
PROBED = ("/-/healthz", "/-/routes")
PANELS_OF = ("servescope-overview", "servescope-deployment")


OFTEN_S = 60  # a rule of a group with a longer interval may not have been evaluated yet


def running(stack: Backends) -> str:
    """Every application is RUNNING."""
    applications = stack.get(f"{stack.at.ray}/api/serve/applications/")["applications"]
    need(applications, "no application is deployed")
    for name, application in applications.items():
        need(application["status"] == "RUNNING", f"application {name} is {application['status']}")
    return ", ".join(sorted(applications))


def answers(stack: Backends) -> str:
    """A picture of words is read correctly. Traces and logs are then searched for this request."""
    # The Collector samples traces by the end of their IDs; this one is always kept.
    trace_id, request_id = secrets.token_hex(12) + "00000001", str(uuid.uuid4())
    lines = ["bridge silver"]
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "X-Request-ID": request_id}
    try:
        response = stack.http.post(f"{stack.at.serve}/read", content=images.draw(lines), headers=headers)
    except httpx.HTTPError as error:
        raise NotYet(f"{stack.at.serve} is unreachable ({error or type(error).__name__})") from error
    need(response.status_code == 200, f"/read returned {response.status_code}: {response.text.strip()[:100]}")
    found = response.json()["lines"]
    need(images.same_text(found, lines), f"/read returned {found}, expected {lines}")
    stack.request = Request(trace_id, request_id)
    return f"read {found[0]!r}"


def targets(stack: Backends) -> str:
    """Every Prometheus target is up, and every job with static targets has one."""
    known = stack.get(f"{stack.at.prometheus}/api/v1/targets", state="active")["data"]["activeTargets"]
    active = [target for target in known if target["labels"]["job"] not in stack.at.jobs_left_out]
    jobs = {target["labels"]["job"] for target in active}
    need("ray" in jobs, "Prometheus has no Ray targets")
    for target in active:
        name = f"{target['labels']['job']} {target['labels']['instance']}"
        need(
            target["health"] == "up", f"target {name} is {target['health']}: {target['lastError'] or 'not scraped yet'}"
        )
    return f"{len(active)} targets of {len(jobs)} jobs"


def rules(stack: Backends) -> str:
    """Every rule evaluates; those of groups that are evaluated seldom may not have been due yet."""
    groups = stack.get(f"{stack.at.prometheus}/api/v1/rules")["data"]["groups"]
    every = [(rule, group["interval"] > OFTEN_S) for group in groups for rule in group["rules"]]
    need(every, "Prometheus has no rules")
    for rule, seldom in every:
        fine = rule["health"] == "ok" or (seldom and rule["health"] == "unknown")
        need(fine, f"rule {rule['name']} is {rule['health']}: {rule.get('lastError', '')}")
    waiting = sum(rule["health"] != "ok" for rule, _ in every)
    return f"{len(every)} rules" + (f", {waiting} of them not due yet" if waiting else "")


def alerts(stack: Backends) -> str:
    """The alert that always fires has reached Alertmanager."""
    names = {alert["labels"]["alertname"] for alert in stack.get(f"{stack.at.alertmanager}/api/v2/alerts")}
    need("ServescopeWatchdog" in names, "Alertmanager has not received ServescopeWatchdog, which always fires")
    return f"{len(names)} alerts firing: {', '.join(sorted(names))}"


def _values(stack: Backends, expression: str) -> dict[str, float]:
    """Values of an instant query, by the label instance."""
    found = stack.get(f"{stack.at.prometheus}/api/v1/query", query=expression)["data"]["result"]
    return {series["metric"].get("instance", ""): float(series["value"][1]) for series in found}


def exporter(stack: Backends) -> str:
    """The state exporter reaches Ray."""
    found = _values(stack, "servescope_exporter_up")
    need(found, "Prometheus has no servescope_exporter_up")
    need(set(found.values()) == {1.0}, "servescope_exporter_up is 0: the exporter cannot reach Ray")
    return "reaches Ray"


def probes(stack: Backends) -> str:
    """Both probes of Serve from outside succeed."""
    found = _values(stack, "probe_success")
    for path in PROBED:
        need(any(name.endswith(path) for name in found), f"Prometheus has no probe_success of {path}")
    for name, value in found.items():
        need(value == 1, f"the probe of {name} fails")
    return ", ".join(PROBED)


def load(stack: Backends) -> str:
    """The load reaches Serve."""
    found = _values(stack, "sum(rate(ray_serve_num_http_requests_total[1m]))")
    need(found.get("", 0) > 0, "Prometheus sees no requests")
    return f"{found['']:.1f} requests per second"


def dashboards(stack: Backends) -> str:
    """Every bundled dashboard and Ray's own are in Grafana, and the overview is the home page."""
    found = stack.get(f"{stack.at.grafana}/api/search", type="dash-db", limit="500")
    uids = {board["uid"] for board in found}
    for board in all_dashboards(SETTINGS, recorded=True):
        need(board.uid in uids, f"Grafana has no dashboard {board.uid}")
    rays = [board for board in found if board.get("folderTitle") == "Ray"]
    need(rays, "Grafana has no dashboard in the folder Ray")
    home = stack.get(f"{stack.at.grafana}/api/dashboards/home")
    need(home.get("dashboard", {}).get("title") == "Ray Serve / Overview", "the overview is not the home page")
    return f"{len(found) - len(rays)} bundled, {len(rays)} of Ray"


def datasources(stack: Backends) -> str:
    """Grafana reaches every data source."""
    for uid in ("prometheus", "loki", "tempo"):
        health = stack.get(f"{stack.at.grafana}/api/datasources/uid/{uid}/health")
        need(health.get("status") == "OK", f"data source {uid}: {health.get('message', health)}")
    # Grafana's server has no health check for this kind.
    stack.get(f"{stack.at.grafana}/api/datasources/proxy/uid/alertmanager/api/v2/status")
    return "Prometheus, Loki, Tempo, Alertmanager"


def panels(stack: Backends) -> str:
    """Each panel of the first two dashboards has data, queried through Grafana."""
    assert stack.at.grafana
    window = Window.last(300, SETTINGS.scrape_interval_s)
    counts = []
    try:
        with ThroughGrafana(stack.at.grafana) as grafana:
            for board in all_dashboards(SETTINGS, recorded=True):
                if board.uid in PANELS_OF:
                    check = check_board(board, grafana, window)
                    need(not check.missing, f"{check.title}: no data in {', '.join(check.missing)}")
                    counts.append(f"{check.with_data} of {check.panels}")
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    return f"{' and '.join(counts)} panels have data"


def log_panels(stack: Backends) -> str:
    """Loki accepts each query of these dashboards, and some have lines; which ones depends on the load."""
    assert stack.at.grafana
    window = Window.last(300, SETTINGS.scrape_interval_s)
    asked = answered = 0
    try:
        with ThroughGrafana(stack.at.grafana) as grafana:
            for board in (
                board.to_json() for board in all_dashboards(SETTINGS, recorded=True) if board.uid in PANELS_OF
            ):
                scope = Interpolation(select_variables(board, grafana, window, every=True), window.macros())
                for panel in panels_of(board):
                    for target in panel.get("targets", []):
                        if target["datasource"]["type"] == "loki":
                            query = {"expr": scope.promql(target["expr"]), "queryType": target["queryType"]}
                            source = {"type": "loki", "uid": "loki"}
                            frames = grafana.frames(
                                source, query, start=window.start, end=window.end, step_s=window.step_s
                            )
                            asked += 1
                            answered += any(column for frame in frames for column in frame["data"]["values"])
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    need(answered, f"none of {asked} Loki queries returned a line")
    return f"{answered} of {asked} Loki queries have data"


def trace(stack: Backends) -> str:
    """The trace of the request is in Tempo."""
    found = stack.get(f"{stack.at.tempo}/api/traces/{stack.sent().trace_id}")
    batches = found.get("batches") or found.get("trace", {}).get("resourceSpans", [])
    spans = [span for batch in batches for scope in batch.get("scopeSpans", []) for span in scope["spans"]]
    need(spans, f"trace {stack.sent().trace_id} has no spans")
    return f"{len(spans)} spans"


def trace_in_files(stack: Backends) -> str:
    """The trace of the request is in the files that the Collector writes."""
    assert stack.at.trace_files
    try:
        found = otlp_files.read_traces(stack.at.trace_files, stack.sent().trace_id).get(stack.sent().trace_id)
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    need(found, f"trace {stack.sent().trace_id} is not in {stack.at.trace_files}")
    assert found
    return f"{len(found.spans)} spans"


def _lines(stack: Backends, key: str, value: str) -> int:
    now = time.time()
    found = stack.get(
        f"{stack.at.loki}/loki/api/v1/query_range",
        query=f'{{job="ray"}} | {key} = "{value}"',
        start=str(round((now - 900) * 1e9)),
        end=str(round(now * 1e9)),
    )
    lines = sum(len(stream["values"]) for stream in found["data"]["result"])
    need(lines, f"Loki has no line with {key} {value}")
    return lines


def lines_of_request(stack: Backends) -> str:
    """Log lines are found by request ID."""
    return f"{_lines(stack, 'request_id', stack.sent().request_id)} lines"


def lines_of_trace(stack: Backends) -> str:
    """Log lines are found by trace ID."""
    return f"{_lines(stack, 'trace_id', stack.sent().trace_id)} lines"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check; `needs` are the fields of Addresses without which it is skipped."""

    component: str
    what: str
    run: Callable[[Backends], str]
    needs: Sequence[str] = ()


CHECKS = (
    Check(component="ray", what="applications are RUNNING", run=running),
    Check(component="serve", what="a request is answered", run=answers),
    Check(component="load", what="requests arrive", run=load, needs=("load",)),
    Check(component="prometheus", what="all targets are up", run=targets),
    Check(component="prometheus", what="all rules evaluate", run=rules),
    Check(component="exporter", what="hears Ray", run=exporter, needs=("exporter",)),
    Check(component="blackbox", what="probes succeed", run=probes, needs=("blackbox",)),
    Check(component="alertmanager", what="alerts arrive", run=alerts, needs=("alertmanager",)),
    Check(component="grafana", what="dashboards are there", run=dashboards, needs=("grafana",)),
    Check(component="grafana", what="data sources answer", run=datasources, needs=("grafana",)),
    Check(component="grafana", what="panels have data", run=panels, needs=("grafana",)),
    Check(component="grafana", what="panels have log lines", run=log_panels, needs=("grafana", "loki")),
    Check(component="tempo", what="the request's trace", run=trace, needs=("tempo",)),
    Check(component="collector", what="the request's trace", run=trace_in_files, needs=("trace_files",)),
    Check(component="loki", what="its lines by request id", run=lines_of_request, needs=("loki",)),
    Check(component="loki", what="its lines by trace id", run=lines_of_trace, needs=("loki", "tempo")),
)
