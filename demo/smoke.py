"""`make smoke`: drive a request through the running stack and find it in every backend, while there is time.

A check is one small function in `CHECKS`, with the components it asks. Checks of components that do not run are left
out, so `make demo` runs the same list at its end. Whoever runs them gets a table and the first cause.

GRAFANA_URL, PROMETHEUS_URL, ALERTMANAGER_URL, SERVE_URL and RAY_URL say where else the published ports are, and
SMOKE_SECONDS how long to wait (300).
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from demo import images
from servescope import traces
from servescope.dashboards import all_dashboards
from servescope.errors import ServescopeError
from servescope.evaluate import Prometheus, Window, check_board, select_variables
from servescope.evaluate import panels as panels_of
from servescope.settings import Settings
from servescope.templating import Scope

SETTINGS = Settings()
PANELS_OF = ("servescope-overview", "servescope-deployment")
PROBED = ("/-/healthz", "/-/routes")
out = Console(highlight=False, soft_wrap=True)


class NotYet(Exception):
    """What is still missing, in one line."""


@dataclass(frozen=True)
class Addresses:
    """Where the components answer; None for one that does not run.

    Loki and Tempo may be reached through Grafana's proxy: then their address is that of the proxy. The exporter and the
    probes are asked of Prometheus, so they are only true or false.
    """

    serve: str
    ray: str
    prometheus: str
    alertmanager: str | None = None
    grafana: str | None = None
    loki: str | None = None
    tempo: str | None = None
    exporter: bool = False
    blackbox: bool = False
    load: bool = False
    trace_files: Path | None = None  # the folder to which the Collector writes, where there is no Tempo


@dataclass(frozen=True)
class Request:
    """A request that was answered: what it is known by in the backends."""

    trace_id: str
    request_id: str


@dataclass
class Stack:
    """The addresses, an HTTP client, and the request that the backends are asked for."""

    at: Addresses
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    request: Request | None = None

    def get(self, url: str, **parameters: str) -> Any:
        """The JSON at an address.

        Raises:
            NotYet: it cannot be had.
        """
        try:
            response = self.http.get(url, params=parameters)
            if response.is_success:
                return response.json()
        except httpx.HTTPError as error:
            raise NotYet(f"{url} does not answer ({error or type(error).__name__})") from error
        except ValueError as error:
            raise NotYet(f"{url} answers, but no JSON") from error
        raise NotYet(f"{url} answers {response.status_code}: {response.text.strip()[:100]}")

    def sent(self) -> Request:
        """The request that was answered.

        Raises:
            NotYet: none was yet.
        """
        if self.request is None:
            raise NotYet("no request has been answered")
        return self.request


def need(condition: object, missing: str) -> None:
    """Raise NotYet unless something is so."""
    if not condition:
        raise NotYet(missing)


# ---------------------------------------------------------------------------------------------------------------------
# The checks: each returns what it found, in a few words


def answers(stack: Stack) -> str:
    """A picture of words is read right. This is the request that is looked for in traces and logs."""
    # The Collector keeps a share of traces by the end of their ids; this end is always within it.
    trace_id, request_id = secrets.token_hex(12) + "00000001", str(uuid.uuid4())
    lines = ["bridge silver"]
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "X-Request-ID": request_id}
    try:
        response = stack.http.post(f"{stack.at.serve}/read", content=images.draw(lines), headers=headers)
    except httpx.HTTPError as error:
        raise NotYet(f"{stack.at.serve} does not answer ({error or type(error).__name__})") from error
    need(response.status_code == 200, f"/read answers {response.status_code}: {response.text.strip()[:100]}")
    found = response.json()["lines"]
    need(images.same_text(found, lines), f"/read says {found} where the picture says {lines}")
    stack.request = Request(trace_id, request_id)
    return f"read {found[0]!r}"


def running(stack: Stack) -> str:
    """Every application is RUNNING."""
    applications = stack.get(f"{stack.at.ray}/api/serve/applications/")["applications"]
    need(applications, "no application is deployed")
    for name, application in applications.items():
        need(application["status"] == "RUNNING", f"application {name} is {application['status']}")
    return ", ".join(sorted(applications))


def targets(stack: Stack) -> str:
    """Every target of Prometheus is up, and every job that has targets by itself has one."""
    active = stack.get(f"{stack.at.prometheus}/api/v1/targets", state="active")["data"]["activeTargets"]
    jobs = {target["labels"]["job"] for target in active}
    need("ray" in jobs, "Prometheus knows no node of Ray")
    for target in active:
        name = f"{target['labels']['job']} {target['labels']['instance']}"
        need(
            target["health"] == "up", f"target {name} is {target['health']}: {target['lastError'] or 'not scraped yet'}"
        )
    return f"{len(active)} targets of {len(jobs)} jobs"


def rules(stack: Stack) -> str:
    """Every rule evaluates."""
    groups = stack.get(f"{stack.at.prometheus}/api/v1/rules")["data"]["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    need(every, "Prometheus has no rules")
    for rule in every:
        need(rule["health"] == "ok", f"rule {rule['name']} is {rule['health']}: {rule.get('lastError', '')}")
    return f"{len(every)} rules"


def alerts(stack: Stack) -> str:
    """The alert that always fires has come as far as Alertmanager."""
    names = {alert["labels"]["alertname"] for alert in stack.get(f"{stack.at.alertmanager}/api/v2/alerts")}
    need("ServescopeWatchdog" in names, "Alertmanager has not heard of ServescopeWatchdog, which always fires")
    return f"{len(names)} alerts fire: {', '.join(sorted(names))}"


def _values(stack: Stack, expression: str) -> dict[str, float]:
    """Values of an instant query, by the label instance."""
    found = stack.get(f"{stack.at.prometheus}/api/v1/query", query=expression)["data"]["result"]
    return {series["metric"].get("instance", ""): float(series["value"][1]) for series in found}


def exporter(stack: Stack) -> str:
    """The state exporter hears Ray."""
    found = _values(stack, "servescope_exporter_up")
    need(found, "Prometheus has no servescope_exporter_up")
    need(set(found.values()) == {1.0}, "servescope_exporter_up is 0: the exporter does not reach Ray")
    return "hears Ray"


def probes(stack: Stack) -> str:
    """Serve is probed from outside, at both doors, and answers."""
    found = _values(stack, "probe_success")
    for path in PROBED:
        need(any(name.endswith(path) for name in found), f"Prometheus has no probe_success of {path}")
    for name, value in found.items():
        need(value == 1, f"the probe of {name} fails")
    return ", ".join(PROBED)


def load(stack: Stack) -> str:
    """The load arrives."""
    found = _values(stack, "sum(rate(ray_serve_num_http_requests_total[1m]))")
    need(found.get("", 0) > 0, "Prometheus sees no requests")
    return f"{found['']:.1f} requests per second"


class ThroughGrafana(Prometheus):
    """Prometheus as a panel sees it: by Grafana's own query API."""

    program = "Grafana"

    def __init__(self, url: str, uid: str = "prometheus") -> None:
        super().__init__(url)
        self._uid = uid
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query, in Prometheus' shape."""
        end = time.time() if at is None else at
        series = self._ask({"expr": expression, "instant": True, "range": False}, end - 60, end)
        return [{"metric": one["metric"], "value": one["values"][-1]} for one in series if one["values"]]

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """A range query, in Prometheus' shape."""
        return self._ask({"expr": expression, "range": True, "interval": f"{step_s:g}s"}, start, end, step_s)

    def label_values(self, label: str, selector: str | None, start: float, end: float) -> list[str]:
        """The values of a label, as a variable of a dashboard gets them."""
        parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        path = f"/api/datasources/uid/{self._uid}/resources/api/v1/label/{label}/values"
        values: list[str] = self._get(path, parameters)
        return sorted(values)

    def frames(
        self, source: dict[str, str], query: dict[str, Any], start: float, end: float, step_s: float = 15
    ) -> list[dict[str, Any]]:
        """The data frames with which Grafana answers a query to any data source.

        Raises:
            ServescopeError: Grafana does not answer, or refuses the query.
        """
        body = {
            "from": str(round(start * 1000)),
            "to": str(round(end * 1000)),
            "queries": [
                {
                    "refId": "A",
                    "datasource": source,
                    "intervalMs": round(step_s * 1000),
                    "maxDataPoints": 10000,
                    **query,
                }
            ],
        }
        try:
            response = self._client.post("/api/ds/query", json=body)
            answer = response.json()["results"]["A"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ServescopeError(
                f"{self.url}: Grafana does not answer the query ({error or type(error).__name__})"
            ) from error
        if "error" in answer:
            raise ServescopeError(f"{self.url}: Grafana refuses the query: {answer['error']}")
        found: list[dict[str, Any]] = answer.get("frames", [])
        return found

    def _ask(self, query: dict[str, Any], start: float, end: float, step_s: float = 15) -> list[dict[str, Any]]:
        frames = self.frames({"type": "prometheus", "uid": self._uid}, query, start, end, step_s)
        return [series for frame in frames for series in frame_series(frame)]


def frame_series(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The series in a data frame of Grafana, in Prometheus' shape: columns of times in milliseconds and of figures."""
    columns = list(zip(frame["schema"]["fields"], frame["data"]["values"], strict=True))
    times = next((values for schema, values in columns if schema["type"] == "time"), [])
    return [
        {
            "metric": schema.get("labels", {}),
            # JSON has no NaN: Grafana sends null.
            "values": [
                [at / 1000, "NaN" if value is None else str(value)] for at, value in zip(times, values, strict=True)
            ],
        }
        for schema, values in columns
        if schema["type"] == "number"
    ]


def dashboards(stack: Stack) -> str:
    """Every dashboard of ours is in Grafana, Ray's beside them, and the overview is the home page."""
    found = stack.get(f"{stack.at.grafana}/api/search", type="dash-db", limit="500")
    uids = {board["uid"] for board in found}
    for board in all_dashboards(SETTINGS, recorded=True):
        need(board.uid in uids, f"Grafana has no dashboard {board.uid}")
    rays = [board for board in found if board.get("folderTitle") == "Ray"]
    need(rays, "Grafana has no dashboard in the folder Ray")
    home = stack.get(f"{stack.at.grafana}/api/dashboards/home")
    need(home.get("dashboard", {}).get("title") == "Ray Serve / Overview", "the overview is not the home page")
    return f"{len(found) - len(rays)} of ours, {len(rays)} of Ray's"


def datasources(stack: Stack) -> str:
    """Every data source answers Grafana."""
    for uid in ("prometheus", "loki", "tempo"):
        told = stack.get(f"{stack.at.grafana}/api/datasources/uid/{uid}/health")
        need(told.get("status") == "OK", f"data source {uid}: {told.get('message', told)}")
    # Grafana's server has no health check for this kind.
    stack.get(f"{stack.at.grafana}/api/datasources/proxy/uid/alertmanager/api/v2/status")
    return "Prometheus, Loki, Tempo, Alertmanager"


def panels(stack: Stack) -> str:
    """Each panel of the first two dashboards has data, asked through Grafana."""
    assert stack.at.grafana
    window = Window.last(300, SETTINGS.scrape_interval_s)
    told = []
    try:
        with ThroughGrafana(stack.at.grafana) as grafana:
            for board in all_dashboards(SETTINGS, recorded=True):
                if board.uid in PANELS_OF:
                    check = check_board(board, grafana, window)
                    need(not check.missing, f"{check.title}: no data in {', '.join(check.missing)}")
                    told.append(f"{check.with_data} of {check.panels}")
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    return f"{' and '.join(told)} panels have data"


def log_panels(stack: Stack) -> str:
    """Each query of these dashboards to Loki is taken, and there are lines; which have some depends on the load."""
    assert stack.at.grafana
    window = Window.last(300, SETTINGS.scrape_interval_s)
    asked = answered = 0
    try:
        with ThroughGrafana(stack.at.grafana) as grafana:
            for board in (
                board.to_json() for board in all_dashboards(SETTINGS, recorded=True) if board.uid in PANELS_OF
            ):
                scope = Scope(select_variables(board, grafana, window), window.macros())
                for panel in panels_of(board):
                    for target in panel.get("targets", []):
                        if target["datasource"]["type"] == "loki":
                            query = {"expr": scope.promql(target["expr"]), "queryType": target["queryType"]}
                            source = {"type": "loki", "uid": "loki"}
                            frames = grafana.frames(source, query, window.start, window.end, window.step_s)
                            asked += 1
                            answered += any(column for frame in frames for column in frame["data"]["values"])
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    need(answered, f"none of {asked} queries to Loki has a line")
    return f"{answered} of {asked} queries to Loki have data"


def trace(stack: Stack) -> str:
    """The trace of the request is in Tempo."""
    found = stack.get(f"{stack.at.tempo}/api/traces/{stack.sent().trace_id}")
    batches = found.get("batches") or found.get("trace", {}).get("resourceSpans", [])
    spans = [span for batch in batches for scope in batch.get("scopeSpans", []) for span in scope["spans"]]
    need(spans, f"trace {stack.sent().trace_id} has no spans")
    return f"{len(spans)} spans"


def trace_in_files(stack: Stack) -> str:
    """The trace of the request is in the files that the Collector writes."""
    assert stack.at.trace_files
    try:
        found = traces.read(stack.at.trace_files, stack.sent().trace_id).get(stack.sent().trace_id)
    except ServescopeError as error:
        raise NotYet(str(error)) from error
    need(found, f"trace {stack.sent().trace_id} is not in {stack.at.trace_files}")
    assert found
    return f"{len(found.spans)} spans"


def _lines(stack: Stack, key: str, value: str) -> int:
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


def lines_of_request(stack: Stack) -> str:
    """Log lines are found by the id of the request."""
    return f"{_lines(stack, 'request_id', stack.sent().request_id)} lines"


def lines_of_trace(stack: Stack) -> str:
    """Log lines are found by the id of the trace."""
    return f"{_lines(stack, 'trace_id', stack.sent().trace_id)} lines"


@dataclass(frozen=True)
class Check:
    """One thing to look for; `needs` are the fields of Addresses without which it is left out."""

    component: str
    what: str
    run: Callable[[Stack], str]
    needs: Sequence[str] = ()


CHECKS = (
    Check("ray", "applications are RUNNING", running),
    Check("serve", "a request is answered", answers),
    Check("load", "requests arrive", load, ("load",)),
    Check("prometheus", "all targets are up", targets),
    Check("prometheus", "all rules evaluate", rules),
    Check("exporter", "hears Ray", exporter, ("exporter",)),
    Check("blackbox", "probes succeed", probes, ("blackbox",)),
    Check("alertmanager", "alerts arrive", alerts, ("alertmanager",)),
    Check("grafana", "dashboards are there", dashboards, ("grafana",)),
    Check("grafana", "data sources answer", datasources, ("grafana",)),
    Check("grafana", "panels have data", panels, ("grafana",)),
    Check("grafana", "panels have log lines", log_panels, ("grafana", "loki")),
    Check("tempo", "the request's trace", trace, ("tempo",)),
    Check("collector", "the request's trace", trace_in_files, ("trace_files",)),
    Check("loki", "its lines by request id", lines_of_request, ("loki",)),
    Check("loki", "its lines by trace id", lines_of_trace, ("loki", "tempo")),
)


@dataclass(frozen=True)
class Result:
    """How a check ended: what it found, or what was still missing."""

    check: Check
    found: bool
    detail: str
    after_s: float


def run(addresses: Addresses, within_s: float, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Run the checks of the components that are there, each again until it finds what it looks for or time is up."""
    stack = Stack(addresses)
    started = time.monotonic()
    results: dict[Check, Result] = {}
    here = [check for check in checks if all(getattr(addresses, name) for name in check.needs)]
    while True:
        for check in here:
            if check in results and results[check].found:
                continue
            try:
                found, detail = True, check.run(stack)
            except NotYet as missing:
                found, detail = False, str(missing)
            results[check] = Result(check, found, detail, time.monotonic() - started)
        waiting = [result for result in results.values() if not result.found]
        if not waiting or time.monotonic() - started > within_s:
            stack.http.close()
            return list(results.values())
        time.sleep(3)


def report(results: Sequence[Result], console: Console = out) -> list[str]:
    """Print the table. Returns what is missing, in the order of the checks: the first is usually the cause."""
    table = Table("component", "check", "", "after", "found", title="Smoke test", title_justify="left")
    for result in results:
        mark = "ok" if result.found else "MISSING"
        table.add_row(result.check.component, result.check.what, mark, f"{result.after_s:.0f} s", result.detail)
    console.print(table)
    return [f"{r.check.component}: {r.detail}" for r in results if not r.found]


def addresses_from_environment() -> Addresses:
    """The ports that docker-compose.yml publishes, or what the environment says."""

    def at(name: str, port: int) -> str:
        return os.environ.get(f"{name}_URL", f"http://127.0.0.1:{port}").rstrip("/")

    grafana = at("GRAFANA", 3000)
    return Addresses(
        serve=at("SERVE", 8000),
        ray=at("RAY", 8265),
        prometheus=at("PROMETHEUS", 9090),
        alertmanager=at("ALERTMANAGER", 9093),
        grafana=grafana,
        loki=f"{grafana}/api/datasources/proxy/uid/loki",
        tempo=f"{grafana}/api/datasources/proxy/uid/tempo",
        exporter=True,
        blackbox=True,
        load=True,
    )


def main() -> int:
    """Run the checks against the compose stack; 1 when something is missing."""
    text = os.environ.get("SMOKE_SECONDS", "300")
    try:
        within_s = float(text)
    except ValueError:
        raise ServescopeError(f"SMOKE_SECONDS: {text!r} is no number of seconds") from None
    missing = report(run(addresses_from_environment(), within_s))
    if missing:
        print(f"smoke: {missing[0]}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServescopeError as error:
        sys.exit(f"smoke: {error}")
