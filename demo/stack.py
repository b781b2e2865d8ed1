"""Run Ray Serve and what watches it as local processes; the demo and the live tests both stand on this.

A component is one small function that returns a `Component`; adding one means adding it to a list. Processes are
mirakuru's: each leads a process group of its own, carries a mark in its environment, and is ended by these, so another
Ray on the machine is never touched (`ray stop` would kill it: it goes by keyword).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx
import psutil
import yaml
from mirakuru import Executor
from mirakuru.exceptions import ExecutorError, ProcessExitedWithError

from servescope.errors import ServescopeError

ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
OLDEST_PROMETHEUS = (2, 42)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FREE_DISK_BYTES = 1 << 30  # what a day of the demo's series and Ray's logs may take


@dataclass(frozen=True)
class Ports:
    """Every port that the stack opens; the defaults are those of the programs themselves."""

    serve: int = 8000
    dashboard: int = 8265
    gcs: int = 6379
    client_server: int = 10001
    object_manager: int = 10002
    node_manager: int = 10003
    runtime_env_agent: int = 10004
    dashboard_agent: int = 52365
    dashboard_agent_grpc: int = 52366
    metrics: int = 8080
    autoscaler_metrics: int = 44217
    dashboard_metrics: int = 44227
    loki: int = 3100
    loki_grpc: int = 9096
    log_agent: int = 2020
    log_events: int = 2021
    log_health: int = 13134
    worker_min: int = 10100
    worker_max: int = 10999
    prometheus: int = 9090
    alertmanager: int = 9093
    exporter: int = 9475
    blackbox: int = 9115
    otlp_grpc: int = 4317
    otlp_http: int = 4318
    span_metrics: int = 8889
    collector_metrics: int = 8888
    collector_health: int = 13133
    preview: int = 9470

    @staticmethod
    def from_base(base: int) -> Ports:
        """A set of its own: one thousand ports from `base` on, workers in the upper part."""
        names = [name for name in Ports.__dataclass_fields__ if not name.startswith("worker")]
        return Ports(**{name: base + i for i, name in enumerate(names)}, worker_min=base + 100, worker_max=base + 999)


@dataclass(frozen=True)
class Run:
    """Where and how one stack runs."""

    directory: Path
    ports: Ports
    serve_config: Path
    cluster: str = "demo"
    scrape_interval_s: int = 15
    rules: str = str(ROOT / "alerts/*.yml")
    probes: bool = False  # whether the component `blackbox` runs, so that Prometheus asks it
    ray: str = str(Path(sys.executable).parent)  # the folder that holds `ray` and `serve`
    env: dict[str, str] = field(default_factory=dict)
    traces: bool = False  # whether a Collector runs and Serve sends it spans
    gpus: int = 0  # how many Ray may hand out
    extra_scrapes: Sequence[dict[str, Any]] = ()  # jobs of Prometheus beside those of every stack

    @property
    def temp_dir(self) -> Path:
        """Ray's temporary directory: short, since the path of a Unix socket may have 107 characters at most."""
        return Path(tempfile.gettempdir()) / f"servescope-{self.ports.gcs}"

    @property
    def serve_url(self) -> str:
        """The HTTP address of Serve."""
        return f"http://{LOOPBACK}:{self.ports.serve}"

    @property
    def dashboard_url(self) -> str:
        """The address of Ray's dashboard and REST API."""
        return f"http://{LOOPBACK}:{self.ports.dashboard}"

    @property
    def prometheus_url(self) -> str:
        """The address of Prometheus."""
        return f"http://{LOOPBACK}:{self.ports.prometheus}"

    @property
    def ray_env(self) -> dict[str, str]:
        """What Ray's processes and its clients need to know of this run."""
        return {
            # A token file of an earlier Ray on this machine would otherwise switch token authentication on.
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # On two busy cores the dashboard takes longer than the 60 s that Ray gives it, a module of it than 30 s.
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "150",
            "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120",
            "RAY_ADDRESS": f"{LOOPBACK}:{self.ports.gcs}",
            "RAY_PROMETHEUS_HOST": self.prometheus_url,
            "AUTOSCALER_METRIC_PORT": str(self.ports.autoscaler_metrics),
            "DASHBOARD_METRIC_PORT": str(self.ports.dashboard_metrics),
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
            ),
            **(self.tracing_env if self.traces else {}),
            **self.env,
        }

    @property
    def tracing_env(self) -> dict[str, str]:
        """What turns on Serve's traces."""
        return {
            "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "servescope.tracing:otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self.ports.otlp_grpc}",
        }


# Before the command of an agent: Ray runs its workers at nice 15 (RAY_worker_niceness), so one at the usual priority
# would come before the proxies and replicas that it watches.
YIELDING = ("nice", "-n", "19")


@dataclass(frozen=True)
class Component:
    """One thing to run: `ready` tells when it is; `once` means that the command ends and its effect stays."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    address: str = ""
    ports: Sequence[int] = ()
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 60
    once: bool = False
    public: bool = False  # listens on all interfaces
    stop_signal: int = signal.SIGTERM
    prepare: Callable[[], None] | None = None
    yields: bool = False  # to Ray's workers, when both have work


def _last_words(text: str) -> str:
    """The last line that says something, without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if re.search(r"\w", line)]
    return lines[-1] if lines else ""


def answers(url: str) -> bool:
    """Whether a GET of the address gives a 2xx."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# The components


def ray(run: Run) -> Component:
    """A Ray head with every port set, in a temporary directory of its own."""
    p = run.ports
    command = [
        *(f"{run.ray}/ray", "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"),
        *("--num-cpus=8", f"--num-gpus={run.gpus}", f"--temp-dir={run.temp_dir}", f"--dashboard-host={LOOPBACK}"),
        f"--port={p.gcs}",
        f"--ray-client-server-port={p.client_server}",
        f"--object-manager-port={p.object_manager}",
        f"--node-manager-port={p.node_manager}",
        f"--runtime-env-agent-port={p.runtime_env_agent}",
        f"--dashboard-port={p.dashboard}",
        f"--dashboard-agent-listen-port={p.dashboard_agent}",
        f"--dashboard-agent-grpc-port={p.dashboard_agent_grpc}",
        f"--metrics-export-port={p.metrics}",
        f"--min-worker-port={p.worker_min}",
        f"--max-worker-port={p.worker_max}",
    ]

    def prepare() -> None:
        # Ray never deletes old sessions; this directory is ours alone.
        shutil.rmtree(run.temp_dir, ignore_errors=True)

    discovery = run.temp_dir / "prom_metrics_service_discovery.json"

    def ready() -> bool:
        # The file lists the nodes that have joined. The dashboard answers before its own node has, and refuses to
        # deploy until then.
        try:
            joined = f":{p.metrics}" in discovery.read_text()
        except OSError:
            return False
        return joined and answers(f"{run.dashboard_url}/api/version")

    return Component(
        "ray",
        command,
        ready,
        run.dashboard_url,
        (
            *(p.gcs, p.client_server, p.object_manager, p.node_manager, p.runtime_env_agent, p.dashboard),
            *(p.dashboard_agent, p.dashboard_agent_grpc, p.metrics, p.autoscaler_metrics, p.dashboard_metrics),
        ),
        run.ray_env,
        timeout_s=180,
        public=True,
        prepare=prepare,
    )


def applications(run: Run) -> Component:
    """The applications of a Serve config file, deployed as a team would and awaited until every one is RUNNING."""
    config = run.directory / "serve_config.yaml"

    def prepare() -> None:
        document = read_serve_config(run.serve_config)
        document["http_options"] = {**document.get("http_options", {}), "host": LOOPBACK, "port": run.ports.serve}
        config.write_text(yaml.safe_dump(document, sort_keys=False))

    def ready() -> bool:
        try:
            applications = serve_applications(run)
        except httpx.HTTPError:
            return False
        for name, application in applications.items():
            if application["status"] == "DEPLOY_FAILED":
                raise ServescopeError(f"application {name} failed to deploy: {why_it_failed(application)}")
        states = {application["status"] for application in applications.values()}
        return states == {"RUNNING"} and answers(f"{run.serve_url}/-/routes")

    return Component(
        "applications",
        [f"{run.ray}/serve", "deploy", "-a", run.dashboard_url, str(config)],
        ready,
        run.serve_url,
        (run.ports.serve,),
        run.ray_env,
        timeout_s=180,
        once=True,
        prepare=prepare,
    )


def read_serve_config(path: Path) -> dict[str, Any]:
    """A Serve config file.

    Raises:
        ServescopeError: it cannot be read, or it is none.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ServescopeError(f"{path}: cannot read it ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ServescopeError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict) or not document.get("applications"):
        raise ServescopeError(f"{path}: names no applications; is it a Serve config file?")
    return document


def why_it_failed(application: dict[str, Any]) -> str:
    """The reason why an application is DEPLOY_FAILED, in one line, from what Ray's REST API tells of it.

    The application names the deployments that failed; the exception stands last in the message of the deployment.
    """
    for name, deployment in application.get("deployments", {}).items():
        if deployment["status"] == "DEPLOY_FAILED":
            return f"{name}: {_last_words(deployment['message']) or 'no reason given'}"
    return _last_words(application["message"]) or "no reason given"


def serve_applications(run: Run) -> dict[str, Any]:
    """The applications as Ray's REST API tells them, by name.

    Raises:
        httpx.HTTPError: the API does not answer.
    """
    response = httpx.get(f"{run.dashboard_url}/api/serve/applications/", timeout=5)
    response.raise_for_status()
    applications: dict[str, Any] = response.json()["applications"]
    return applications


def prometheus_config(run: Run) -> dict[str, Any]:
    """Prometheus over Ray's own discovery file, with our rules."""
    return {
        "global": {
            "scrape_interval": f"{run.scrape_interval_s}s",
            "evaluation_interval": f"{run.scrape_interval_s}s",
        },
        "rule_files": [run.rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.alertmanager}"]}]}]},
        "scrape_configs": [
            {
                "job_name": "ray",
                "file_sd_configs": [
                    {
                        "files": [str(run.temp_dir / "prom_metrics_service_discovery.json")],
                        "refresh_interval": "5s",
                    }
                ],
                "relabel_configs": [
                    # The file names the host's own address; everything is on this machine, so loopback reaches it.
                    {
                        "source_labels": ["__address__"],
                        "regex": r".*:(\d+)",
                        "target_label": "__address__",
                        "replacement": f"{LOOPBACK}:$1",
                    },
                    {"target_label": "ray_io_cluster", "replacement": run.cluster},
                ],
                "metric_relabel_configs": [{"action": "labeldrop", "regex": "otel_scope_.*"}],
            },
            {
                "job_name": "servescope",
                "static_configs": [
                    {"targets": [f"{LOOPBACK}:{run.ports.exporter}"], "labels": {"ray_io_cluster": run.cluster}}
                ],
            },
            {
                "job_name": "prometheus",
                "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.prometheus}"]}],
            },
            *((probe_job(run),) if run.probes else ()),
            *(_collector_jobs(run) if run.traces else ()),
            *run.extra_scrapes,
        ],
    }


def probe_job(run: Run) -> dict[str, Any]:
    """The probes of Serve by the blackbox exporter; `instance` is the probed address."""
    return {
        "job_name": "probe",
        "metrics_path": "/probe",
        "params": {"module": ["serve"]},
        "static_configs": [
            {
                "targets": [f"{run.serve_url}/-/healthz", f"{run.serve_url}/-/routes"],
                "labels": {"ray_io_cluster": run.cluster},
            }
        ],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": f"{LOOPBACK}:{run.ports.blackbox}"},
        ],
    }


def _collector_jobs(run: Run) -> list[dict[str, Any]]:
    cluster = {"ray_io_cluster": run.cluster}
    return [
        {
            "job_name": "traces",
            "honor_labels": True,  # spans may say of which cluster they are
            "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.span_metrics}"], "labels": cluster}],
        },
        {
            "job_name": "collector",
            "static_configs": [{"targets": [f"{LOOPBACK}:{run.ports.collector_metrics}"], "labels": cluster}],
        },
    ]


def prometheus(run: Run) -> Component:
    """Prometheus with our rules; a new database each time."""
    config, data = run.directory / "prometheus.yml", run.directory / "prometheus"

    def prepare() -> None:
        check_prometheus()
        shutil.rmtree(data, ignore_errors=True)
        config.write_text(yaml.safe_dump(prometheus_config(run), sort_keys=False))

    return Component(
        "prometheus",
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={LOOPBACK}:{run.ports.prometheus}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ],
        lambda: answers(f"{run.prometheus_url}/-/ready"),
        run.prometheus_url,
        (run.ports.prometheus,),
        prepare=prepare,
    )


def alertmanager(run: Run) -> Component:
    """Alertmanager with our routes and inhibitions, alone and with nobody to notify."""
    config = ROOT / "alertmanager/alertmanager.yml"
    url = f"http://{LOOPBACK}:{run.ports.alertmanager}"

    def prepare() -> None:
        require("prometheus-alertmanager")

    return Component(
        "alertmanager",
        [
            "prometheus-alertmanager",
            f"--config.file={config}",
            f"--storage.path={run.directory / 'alertmanager'}",
            f"--web.listen-address={LOOPBACK}:{run.ports.alertmanager}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        lambda: answers(f"{url}/-/ready"),
        url,
        (run.ports.alertmanager,),
        prepare=prepare,
    )


def blackbox(run: Run) -> Component:
    """The blackbox exporter, which probes Serve from outside."""
    url = f"http://{LOOPBACK}:{run.ports.blackbox}"

    def prepare() -> None:
        require("prometheus-blackbox-exporter")

    return Component(
        "blackbox",
        [
            "prometheus-blackbox-exporter",
            f"--config.file={ROOT / 'blackbox/blackbox.yml'}",
            f"--web.listen-address={LOOPBACK}:{run.ports.blackbox}",
        ],
        lambda: answers(f"{url}/-/healthy"),
        url,
        (run.ports.blackbox,),
        prepare=prepare,
    )


def exporter(run: Run) -> Component:
    """The Serve state exporter."""
    url = f"http://{LOOPBACK}:{run.ports.exporter}"
    return Component(
        "exporter",
        [
            *(sys.executable, "-m", "servescope", "exporter", f"--address={run.dashboard_url}"),
            *(f"--port={run.ports.exporter}", "--interval=5"),
        ],
        lambda: answers(f"{url}/-/healthz"),
        url,
        (run.ports.exporter,),
    )


def find(program: str) -> str | None:
    """The path of a program that no Debian package brings: below .tools/ (`make tools`) or on the PATH, else None."""
    return shutil.which(program, path=os.pathsep.join((str(ROOT / ".tools"), os.environ.get("PATH", ""))))


def trace_files(run: Run) -> Path:
    """The folder into which the Collector writes the traces."""
    return run.directory / "collector"


def collector(run: Run) -> Component:
    """The OpenTelemetry Collector with the configuration that ships, writing its traces to files.

    Everything is kept: what is written is small, and whoever asks for a request by its id wants to find it.
    """
    p = run.ports
    data = trace_files(run)
    url = f"http://{LOOPBACK}:{p.collector_health}"

    def prepare() -> None:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)

    return Component(
        "collector",
        [find("otelcol") or "otelcol", f"--config={ROOT / 'otel/collector.yaml'}"],
        lambda: answers(url),
        f"http://{LOOPBACK}:{p.otlp_grpc}",
        (p.otlp_grpc, p.otlp_http, p.span_metrics, p.collector_metrics, p.collector_health),
        {
            "COLLECTOR_DATA": str(data),
            "COLLECTOR_HEALTH_ENDPOINT": f"{LOOPBACK}:{p.collector_health}",
            "COLLECTOR_METRICS_PORT": str(p.collector_metrics),
            "DECISION_WAIT": "5s",
            "OTLP_GRPC_ENDPOINT": f"{LOOPBACK}:{p.otlp_grpc}",
            "OTLP_HTTP_ENDPOINT": f"{LOOPBACK}:{p.otlp_http}",
            "SAMPLE_PERCENT": "100",
            "SPAN_METRICS_ENDPOINT": f"{LOOPBACK}:{p.span_metrics}",
            "TRACES_TO": "[file/traces]",
        },
        prepare=prepare,
        yields=True,
    )


def preview(run: Run) -> Component:
    """The dashboards as pages, for where there is no Grafana."""
    url = f"http://{LOOPBACK}:{run.ports.preview}"
    return Component(
        "preview",
        [
            *(sys.executable, "-m", "servescope", "preview"),
            *(f"--prometheus={run.prometheus_url}", f"--port={run.ports.preview}"),
        ],
        lambda: answers(f"{url}/-/ready"),
        url,
        (run.ports.preview,),
    )


LOAD_RESULT = "load.json"


def load(run: Run) -> Component:
    """Locust with the demo's load; what came of it lies in LOAD_RESULT in the run's directory when it has ended."""
    result = run.directory / LOAD_RESULT
    return Component(
        "load",
        [
            *(own_program("locust"), "-f", str(ROOT / "demo/load.py"), "--headless", "--only-summary"),
            *("--loglevel", "WARNING", "--host", run.serve_url),
        ],
        lambda: True,
        stop_signal=signal.SIGINT,  # with a load shape locust does not hear SIGTERM
        env={"PYTHONPATH": str(ROOT), "LOAD_RESULT": str(result)},
        prepare=lambda: result.unlink(missing_ok=True),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Checks before anything starts


def require(program: str) -> str:
    """The path of a program.

    Raises:
        ServescopeError: it is not on the PATH.
    """
    path = shutil.which(program)
    if path is None:
        raise ServescopeError(
            f"{program} is not on the PATH: run `make tools`, or see scripts/setup.sh for where to get it"
        )
    return path


def check_prometheus() -> None:
    """Refuse a Prometheus that is missing or older than the rules need.

    Raises:
        ServescopeError: it is missing, too old, or does not tell its version.
    """
    path = require("prometheus")
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", told.stdout + told.stderr)
    if match is None:
        raise ServescopeError(f"{path}: does not tell its version; is it Prometheus?")
    version = (int(match.group(1)), int(match.group(2)))
    if version < OLDEST_PROMETHEUS:
        wanted = ".".join(map(str, OLDEST_PROMETHEUS))
        raise ServescopeError(f"{path}: version {version[0]}.{version[1]} is too old; {wanted} or later is needed")


def check_port(port: int, component: Component) -> None:
    """Refuse to start while somebody else has a port.

    Raises:
        ServescopeError: it is taken; the message names the component and, where visible, the process that has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if component.public else LOOPBACK, port))
            return
        except OSError:
            pass
    raise ServescopeError(
        f"port {port} is taken{_holder(port)}, and {component.name} needs it: stop that process, "
        "or choose other ports with PORT_BASE=20000"
    )


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # not ours to see
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# The stack


class _Process(Executor):
    """A process that has started when its component says so."""

    def __init__(self, component: Component, log: IO[bytes]) -> None:
        super().__init__(
            [*(YIELDING if component.yields else ()), *component.command],
            timeout=component.timeout_s,
            stop_signal=component.stop_signal,
            envvars=component.env,
            stdin=subprocess.DEVNULL,
            stdout=log,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
            cwd=str(ROOT),
        )
        self._component = component

    def pre_start_check(self) -> bool:
        return False  # its ports have been checked

    def after_start_check(self) -> bool:
        return self._component.ready()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore the signals that ask for an end, in the thread that can be asked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stack:
    """Components running side by side; use it as a context manager, which ends all it started.

    `say` hears what happens, a line at a time.
    """

    def __init__(
        self, run: Run, factories: Sequence[Callable[[Run], Component]], say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.run = run
        self.components = [factory(run) for factory in factories]
        self._say = say
        self._processes: list[tuple[Component, _Process]] = []
        self._descendants: dict[int, float] = {}
        self._lock: IO[str] | None = None

    def log(self, component: Component) -> Path:
        """The file that holds what a component prints."""
        return self.run.directory / "logs" / f"{component.name}.log"

    def __enter__(self) -> Stack:
        try:
            self._check()
            for component in self.components:
                started = time.monotonic()
                self._say(f"starting {component.name}")
                self._start(component)
                self._say(f"{component.name} is ready after {time.monotonic() - started:.0f} s")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def dead(self) -> list[str]:
        """Which components have ended although they should run, with the last line that each printed."""
        return [
            f"{component.name} has ended: {self._last_line(component)}"
            for component, process in self._processes
            if not component.once and not process.running()
        ]

    def processes(self) -> list[psutil.Process]:
        """The processes that lead what runs here."""
        pids = [process.process.pid for _, process in self._processes if process.process is not None]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def stop(self) -> None:
        """End every process that was started here, the last one first, and nothing else."""
        with uninterrupted():  # an impatient second Ctrl-C would leave the rest running
            for _, process in reversed(self._processes):
                self._remember_descendants(process)
                with contextlib.suppress(ExecutorError):  # how it ended does not matter any more
                    process.stop()
            self._processes.clear()
            self._end_descendants()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- inside

    def _check(self) -> None:
        directory = self.run.directory
        try:
            (directory / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
        except OSError as error:
            raise ServescopeError(f"{directory}: cannot write there ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise ServescopeError(
                f"already running in {directory}: stop that one first (Ctrl-C where it runs)"
            ) from None
        free = shutil.disk_usage(directory).free
        if free < FREE_DISK_BYTES:
            raise ServescopeError(
                f"{directory}: {free / 1e9:.1f} GB of disk free, {FREE_DISK_BYTES / 1e9:.1f} GB are needed for the "
                "time series and logs: free some, or choose another folder with DEMO_DIR"
            )
        for component in self.components:
            require(component.command[0])
            for port in component.ports:
                check_port(port, component)
        try:
            for component in self.components:
                if component.prepare:
                    component.prepare()
        except OSError as error:
            raise ServescopeError(f"{error.filename}: cannot write there ({error.strerror})") from error

    def _start(self, component: Component) -> None:
        with self.log(component).open("wb") as log:
            process = _Process(component, log)
            try:
                if component.once:
                    self._run_once(component, log)
                else:
                    self._processes.append((component, process))
                    process.start()
                    return
            except ExecutorError as error:
                how = (
                    "ended" if isinstance(error, ProcessExitedWithError) else f"not ready in {component.timeout_s:g} s"
                )
                raise ServescopeError(
                    f"{component.name} did not start ({how}): {self._last_line(component)} [{self.log(component)}]"
                ) from error
        self._await(component)

    def _run_once(self, component: Component, log: IO[bytes]) -> None:
        environment = {**os.environ, **component.env}
        command = list(component.command)
        try:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, timeout=component.timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServescopeError(
                f"{component.name} did not end in {component.timeout_s:g} s: {self._last_line(component)} "
                f"[{self.log(component)}]"
            ) from None
        if done.returncode:
            program = Path(command[0]).name
            raise ServescopeError(
                f"{component.name}: {program} failed: {self._last_line(component)} [{self.log(component)}]"
            )

    def _await(self, component: Component) -> None:
        deadline = time.monotonic() + component.timeout_s
        while not component.ready():
            dead = self.dead()
            if dead:
                raise ServescopeError(f"{component.name} did not start, because {dead[0]}")
            if time.monotonic() > deadline:
                raise ServescopeError(
                    f"{component.name} did not start (not ready in {component.timeout_s:g} s) [{self.log(component)}]"
                )
            time.sleep(0.5)

    def _last_line(self, component: Component) -> str:
        try:
            text = self.log(component).read_text(errors="replace")
        except OSError:
            return "it printed nothing"
        return _last_words(text) or "it printed nothing"

    def _remember_descendants(self, process: _Process) -> None:
        """Ray's workers change their process title, which erases mirakuru's mark, so they are remembered by pid."""
        if process.process is None:
            return
        try:
            for child in psutil.Process(process.process.pid).children(recursive=True):
                self._descendants[child.pid] = child.create_time()
        except psutil.Error:
            pass  # gone already

    def _end_descendants(self) -> None:
        left = []
        for pid, born in self._descendants.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == born:  # not a later process with the same pid
                    left.append(process)
            except psutil.Error:
                continue
        # Workers end by themselves within a second or two of their raylet.
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._descendants.clear()


DEFAULT_PORTS = Ports()


def own_program(name: str) -> str:
    """A program of this Python's own environment, whichever Ray is under test."""
    return str(Path(sys.executable).parent / name)


def directory_from_environment(name: str) -> Path:
    """Where a run keeps its logs and data: a folder of the repository, or DEMO_DIR."""
    return Path(os.environ.get("DEMO_DIR") or ROOT / ".servescope" / name).absolute()


def ports_from_environment() -> Ports:
    """The default ports, or a set of its own from PORT_BASE on.

    Raises:
        ServescopeError: PORT_BASE is no number that leaves room for a thousand ports.
    """
    text = os.environ.get("PORT_BASE", "")
    if not text:
        return DEFAULT_PORTS
    if not text.isdigit() or not 1024 <= int(text) <= 64000:
        raise ServescopeError(f"PORT_BASE: {text!r} is no port between 1024 and 64000")
    return Ports.from_base(int(text))
