"""What the drill breaks: Ray Serve on two nodes, and the real programs that watch it, with every duration shortened.

The second node lives in a network namespace of its own, so that its proxy has the same port as the head's, and in a
root file system of its own, so that its disk can be filled. Needs root for both.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from demo import ROOT
from demo.stack.component import Component, answers
from demo.stack.components.alertmanager import alertmanager
from demo.stack.components.exporter import exporter
from demo.stack.components.prometheus import prometheus, prometheus_config
from demo.stack.components.ray import ray
from demo.stack.ports import LOOPBACK, Ports
from demo.stack.run import Run
from demo.stack.serve_api import serve_applications
from demo.stack.supervisor import Stack
from servescope import generate
from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError
from tests.drill import DEPLOYMENT, SWITCHES
from tests.drill.design import App, Design
from tests.drill.load import Load
from tests.drill.pace import SCALE, SETTINGS, USUAL_NICE, memory_threshold, ray_environment, scaled

HEAD_IP, WORKER_IP = "10.77.0.1", "10.77.0.2"
WORKER_DISK = "1g"
READY_WITHIN_S = 300
NODE_TRIES = 3
# The priority of what watches: what it has fifteen seconds for outside must be done in two here, beside the load.
WATCHING_NICE = -10
SETTLED_WITHIN_S = 180
CALM_RATE = 0.2  # requests per second


def impossible() -> str:
    """Why the drill cannot run on this machine, or ""."""
    if os.geteuid() != 0:
        return "the drill needs root: its second node has a network namespace and a disk of its own"
    needed = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter", "redis-server", "ip", "unshare")
    missing = [program for program in needed if shutil.which(program) is None]
    return f"not on the PATH: {', '.join(missing)} (Debian packages of these names)" if missing else ""


class World:
    """A running world; a context manager, which leaves nothing behind."""

    def __init__(
        self, design: Design, applications: list[App], *, first: set[str], base: int, say: Callable[[str], None]
    ) -> None:
        self.design = design
        self.say = say
        self.load = Load()
        self.applications = {application.name: application for application in applications}
        self.present = set(first)
        directory = ROOT / ".servescope/drill" / design.name
        shutil.rmtree(directory, ignore_errors=True)
        self.switches = directory / "switches"
        self.switches.mkdir(parents=True)
        self.blackbox_port, self.redis_port = base + 60, base + 61
        self.namespace = f"drill-{base}"
        fault_tolerance = {
            "RAY_external_storage_namespace": design.name,
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # as KubeRay sets it for workers
        }
        env = {
            **ray_environment(),
            SWITCHES: str(self.switches),
            **(fault_tolerance if design.fault_tolerant else {}),
            **(memory_threshold(design.memory_left) if design.memory_left else {}),
            **design.env,
        }
        rules = directory / "rules.yml"
        rules.write_text(generate.rule_files(SETTINGS, [], SCALE)[Path("servescope-alerts.yml")])
        self.run = Run(
            directory=directory,
            ports=Ports.from_base(base),
            serve_config=ROOT,
            cluster="drill",
            rules=(str(rules),),
            env=env,
        )
        self.alertmanager_url = f"http://{LOOPBACK}:{self.run.ports.alertmanager}"
        self._parts: dict[str, Stack] = {}
        self._closing = contextlib.ExitStack()
        self._timers: list[threading.Event] = []

    def __enter__(self) -> World:
        try:
            self._network()
            if self.design.fault_tolerant:
                self.start("redis", self._redis)
            self.start("ray", self._head, NODE_TRIES)
            self.start("worker", self._worker, NODE_TRIES)
            self.apply()
            self.await_running(READY_WITHIN_S)
            self._closing.callback(self.load.stop)
            self.load.start(
                {name: self._url(application) for name, application in self.applications.items()},
                {name: a.rate if name in self.present else 0 for name, a in self.applications.items()},
            )
            self.start("exporter", self._exporter)
            self.start("blackbox", self._blackbox)
            self.start("alertmanager", self._alertmanager)
            # The last: events before Prometheus' first scrape do not count.
            self.start("prometheus", self._prometheus)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started here."""
        for timer in self._timers:
            timer.set()
        self._closing.close()
        for name in reversed(list(self._parts)):
            self._parts.pop(name).stop()
        self._end_worker()
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"{self.namespace}h"], capture_output=True, check=False)
        shutil.rmtree(self.run.temp_dir, ignore_errors=True)  # logs and spilled objects

    # -- parts: each a stack of one component, so that each can end and come back by itself

    def start(self, name: str, factory: Callable[[Run], Component], tries: int = 1) -> None:
        """Start a part. A node of Ray gives up when it is not up after 30 s, so that a busy machine may need tries."""
        for left in reversed(range(tries)):
            part = Stack(replace(self.run, directory=self.run.directory / name), [factory], self.say)
            try:
                self._parts[name] = part.__enter__()
                put_ahead(part.processes())
                return
            except ServescopeError as error:
                if not left:
                    raise
                self.say(f"again: {error}")

    def kill(self, name: str) -> None:
        """kill -9 a part, with every process that it has started."""
        part = self._parts.pop(name)
        victims = [victim for process in part.processes() for victim in (process, *process.children(recursive=True))]
        kill_all(victims)
        part.stop()

    def restart(self, name: str) -> None:
        """Start a part that was killed."""
        factories = {"ray": self._head, "worker": self._worker, "exporter": self._exporter}
        self.start(name, factories[name], NODE_TRIES)

    def _head(self, run: Run) -> Component:
        component = ray(run)
        command = [*component.command, f"--node-ip-address={HEAD_IP}", *self.design.head_options]
        redis = {"RAY_REDIS_ADDRESS": f"{HEAD_IP}:{self.redis_port}"} if self.design.fault_tolerant else {}
        metrics = f"http://{HEAD_IP}:{run.ports.metrics}/metrics"
        return replace(
            component,
            command=ahead(command),
            env={**component.env, **redis},
            ready=lambda: component.ready() and answers(metrics),
        )

    def _worker(self, run: Run) -> Component:
        disk = Path(tempfile.gettempdir()) / f"servescope-{self.namespace}"
        command = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            "unshare",
            "--mount",
            "sh",
            str(ROOT / "tests/drill/node.sh"),
            str(disk),
            WORKER_DISK,
            str(ROOT),
            "env",
            f"--chdir={ROOT}",
            f"{run.ray}/ray",
            "start",
            "--block",
            "--disable-usage-stats",
            f"--address={HEAD_IP}:{run.ports.gcs}",
            f"--node-ip-address={WORKER_IP}",
            "--num-cpus=0",
            "--num-gpus=0",
            '--resources={"second": 1}',
            f"--metrics-export-port={run.ports.metrics}",
            "--object-store-memory=100000000",
            f"--dashboard-agent-listen-port={run.ports.dashboard_agent}",
            f"--dashboard-agent-grpc-port={run.ports.dashboard_agent_grpc}",
            f"--runtime-env-agent-port={run.ports.runtime_env_agent}",
            f"--node-manager-port={run.ports.node_manager}",
            f"--object-manager-port={run.ports.object_manager}",
            f"--min-worker-port={run.ports.worker_min}",
            f"--max-worker-port={run.ports.worker_max}",
        ]
        # The memory is the head's too, which watches it.
        env = {**run.ray_env, "RAY_ADDRESS": f"{HEAD_IP}:{run.ports.gcs}", "RAY_memory_monitor_refresh_ms": "0"}

        def ready() -> bool:
            try:
                nodes = httpx.get(f"{run.dashboard_url}/nodes?view=summary", timeout=5).json()["data"]["summary"]
            except (httpx.HTTPError, ValueError, KeyError):
                return False
            # A node that has just come has no address until its agent has reported.
            alive = {node.get("ip") for node in nodes if node["raylet"].get("state") == "ALIVE"}
            return WORKER_IP in alive and answers(f"http://{WORKER_IP}:{run.ports.metrics}/metrics")

        return Component(name="worker", command=ahead(command), ready=ready, env=env, timeout_s=180)

    def _redis(self, run: Run) -> Component:
        address = ["-h", HEAD_IP, "-p", str(self.redis_port)]
        command = [
            "redis-server",
            "--bind",
            HEAD_IP,
            "--port",
            str(self.redis_port),
            "--dir",
            str(run.directory),
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
        ]

        def ready() -> bool:
            return subprocess.run(["redis-cli", *address, "ping"], capture_output=True, check=False).returncode == 0

        return Component(name="redis", command=command, ready=ready)

    def _exporter(self, run: Run) -> Component:
        component = exporter(run)
        command = [part for part in component.command if not part.startswith("--interval")]
        return replace(component, command=ahead([*command, f"--interval={max(1, scaled(10)):.2f}"]))

    def _blackbox(self, run: Run) -> Component:
        config = run.directory / "blackbox.yml"

        def prepare() -> None:
            config.write_text(yaml.safe_dump({"modules": {"http_2xx": {"prober": "http", "timeout": "2s"}}}))

        address = f"{LOOPBACK}:{self.blackbox_port}"
        command = ["prometheus-blackbox-exporter", f"--config.file={config}", f"--web.listen-address={address}"]
        return Component(
            name="blackbox",
            command=ahead(command),
            ready=lambda: answers(f"http://{address}/-/healthy"),
            prepare=prepare,
        )

    def _alertmanager(self, run: Run) -> Component:
        component = alertmanager(run)
        return replace(component, command=ahead(component.command))

    def _prometheus(self, run: Run) -> Component:
        component = prometheus(run)
        config = run.directory / "prometheus.yml"

        def prepare() -> None:
            assert component.prepare is not None
            component.prepare()
            config.write_text(yaml.safe_dump(self.prometheus_config(run), sort_keys=False))

        command = [
            *component.command,
            f"--query.lookback-delta={scaled(300):g}s",
            f"--rules.alert.resend-delay={scaled(60):g}s",
        ]
        return replace(component, command=ahead(command), prepare=prepare)

    def prometheus_config(self, run: Run) -> dict[str, Any]:
        """The demo's configuration at this world's pace, with probes of every node's proxy."""
        config = prometheus_config(run)
        interval = f"{round(1000 * scaled(SETTINGS.scrape_interval_s))}ms"
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
        ray = config["scrape_configs"][0]
        ray["file_sd_configs"][0]["refresh_interval"] = "2s"
        # Only the head is on this side of the namespace.
        ray["relabel_configs"][0]["regex"] = HEAD_IP.replace(".", "[.]") + r":(\d+)"
        addresses = [
            f"http://{host}:{run.ports.serve}{path}"
            # Serve runs a proxy where there are replicas.
            for host in (LOOPBACK, WORKER_IP)
            if host == LOOPBACK or any(application.on_worker for application in self.applications.values())
            for path in ("/-/healthz", "/-/routes")
        ]
        config["scrape_configs"].append(
            {
                "job_name": "probe",
                "metrics_path": "/probe",
                "params": {"module": ["http_2xx"]},
                "static_configs": [{"targets": addresses, "labels": {"ray_io_cluster": run.cluster}}],
                "relabel_configs": [
                    {"source_labels": ["__address__"], "target_label": "__param_target"},
                    {"source_labels": ["__param_target"], "target_label": "instance"},
                    {"target_label": "__address__", "replacement": f"{LOOPBACK}:{self.blackbox_port}"},
                ],
            }
        )
        return config

    # -- the second node

    def _network(self) -> None:
        host, inside = f"{self.namespace}h", f"{self.namespace}n"
        for command in (
            f"ip netns add {self.namespace}",
            f"ip link add {host} type veth peer name {inside}",
            f"ip link set {inside} netns {self.namespace}",
            f"ip addr add {HEAD_IP}/24 dev {host}",
            f"ip link set {host} up",
            f"ip -n {self.namespace} addr add {WORKER_IP}/24 dev {inside}",
            f"ip -n {self.namespace} link set {inside} up",
            f"ip -n {self.namespace} link set lo up",
        ):
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServescopeError(f"{command}: {done.stderr.strip()}")

    def worker_processes(self) -> list[psutil.Process]:
        """Every process on the second node."""
        reported = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return [psutil.Process(int(pid)) for pid in reported.stdout.split() if psutil.pid_exists(int(pid))]

    def _end_worker(self) -> None:
        kill_all(self.worker_processes())

    def kill_worker(self) -> None:
        """kill -9 everything on the second node, as a machine that loses its power."""
        part = self._parts.pop("worker")
        self._end_worker()
        part.stop()

    def fill_worker_disk(self, share: float) -> None:
        """Write a file until this share of the second node's disk is in use; 0 takes the file away."""
        raylet = next(process for process in self.worker_processes() if "raylet" in process.name())
        root = Path(f"/proc/{raylet.pid}/root")
        file = root / "filler"
        file.unlink(missing_ok=True)
        if share:
            disk = psutil.disk_usage(str(root))
            with file.open("wb") as out:
                os.posix_fallocate(out.fileno(), 0, int(share * disk.total - disk.used))

    # -- Serve

    def apply(self) -> None:
        """Deploy what should be there now."""
        config = {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": self.run.ports.serve},
            "logging_config": {"enable_access_log": False},
            "applications": [a.config() for a in self.applications.values() if a.name in self.present],
        }
        response = httpx.put(f"{self.run.dashboard_url}/api/serve/applications/", json=config, timeout=60)
        response.raise_for_status()

    def deploy(self, name: str, **changes: Any) -> None:
        """Deploy one application, changed or for the first time."""
        self.applications[name] = replace(self.applications[name], **changes)
        self.present.add(name)
        self.apply()

    def delete(self, *names: str) -> None:
        """Take applications away."""
        self.present -= set(names)
        self.apply()

    def await_running(self, seconds: float) -> None:
        """Wait until every application runs.

        Raises:
            ServescopeError: one failed, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                states = {name: a["status"] for name, a in serve_applications(self.run).items()}
            except httpx.HTTPError as error:
                states = {"Serve": f"{type(error).__name__}"}
            if set(states) == self.present and set(states.values()) <= {"RUNNING"}:
                return
            if time.monotonic() > deadline:
                raise ServescopeError(f"not running after {seconds:g} s: {states}")
            time.sleep(1)

    def await_second_node(self, seconds: float) -> None:
        """Wait until Prometheus scrapes the second node: Ray lists it some seconds after its start.

        Raises:
            ServescopeError: the time is up.
        """
        heard = f'ray_node_cpu_utilization and on (instance) up{{instance="{WORKER_IP}:{self.run.ports.metrics}"}} == 1'
        deadline = time.monotonic() + seconds
        with Prometheus(self.run.prometheus_url) as prometheus:
            while not prometheus.query(heard):
                if time.monotonic() > deadline:
                    raise ServescopeError(f"Prometheus does not scrape the second node after {seconds:g} s")
                time.sleep(1)

    def replica_pids(self, name: str) -> list[int]:
        """The processes of an application's running replicas."""
        deployment = serve_applications(self.run)[name]["deployments"][DEPLOYMENT]
        return [replica["pid"] for replica in deployment["replicas"] if replica["state"] == "RUNNING"]

    def processes(self, title: str) -> list[psutil.Process]:
        """The processes of the head node whose title begins so ("ray::ServeController")."""
        found = []
        for process in self._parts["ray"].processes():
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if " ".join(child.cmdline()).startswith(title):
                        found.append(child)
        return found

    def _url(self, application: App) -> str:
        host = WORKER_IP if application.on_worker else LOOPBACK
        return f"http://{host}:{self.run.ports.serve}/{application.name}"

    # -- faults

    def calm(self, names: Iterable[str]) -> None:
        """Send these only as much as shows that they stay quiet."""
        for name in names:
            self.load.rates[name] = min(self.applications[name].rate, CALM_RATE)

    def leave(self, names: Collection[str]) -> None:
        """Delete these on purpose, when nobody asks for them any more."""
        for name in names:
            self.load.rates[name] = 0
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while any(self.load.in_flight[name] for name in names if self._serves(name)) and time.monotonic() < deadline:
            time.sleep(1)
        self.delete(*names)
        self.await_running(SETTLED_WITHIN_S)

    def _serves(self, name: str) -> bool:
        application = serve_applications(self.run).get(name, {})
        return application.get("status") == "RUNNING"

    def arrive(self, names: Iterable[str]) -> None:
        """Deploy these, one after another lest they starve each other, and begin to ask for them."""
        for name in names:
            self.deploy(name)
            self.await_running(SETTLED_WITHIN_S)
            self.load.rates[name] = self.applications[name].rate

    def switch(self, name: str, mode: str = "") -> None:
        """Turn an application's fault on, or off."""
        if mode:
            (self.switches / name).write_text(mode)
        else:
            (self.switches / name).unlink(missing_ok=True)

    def repeat(self, action: Callable[[], object], pause_s: float) -> Callable[[], None]:
        """Do something again and again in the background; call what is returned to end it."""
        done = threading.Event()
        self._timers.append(done)

        def work() -> None:
            while not done.wait(pause_s):
                with contextlib.suppress(psutil.Error, httpx.HTTPError, KeyError):
                    action()

        threading.Thread(target=work, daemon=True).start()
        return done.set

    def take_worker_port(self) -> Callable[[], None]:
        """Hold the port of the second node's proxy; call what is returned to let it go."""
        code = (
            "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            "while True:\n"
            f"    try: s.bind(('', {self.run.ports.serve})); break\n"
            "    except OSError: time.sleep(0.01)\n"
            "s.listen(); time.sleep(3600)"
        )
        holder = subprocess.Popen(["ip", "netns", "exec", self.namespace, sys.executable, "-c", code])

        def release() -> None:
            holder.kill()
            holder.wait()

        self._closing.callback(release)
        return release

    def figures(self) -> dict[str, float]:
        """How Prometheus kept up: the slowest evaluation of a group, evaluations left out, samples of a scrape."""
        queries = {
            "slowest rule group, s": "max(max_over_time(prometheus_rule_group_last_duration_seconds[1h]))",
            "evaluations missed": "sum(max_over_time(prometheus_rule_group_iterations_missed_total[1h]))",
            "slowest scrape, s": 'max(max_over_time(scrape_duration_seconds{job="ray"}[1h]))',
            "failed scrapes": 'sum(count_over_time((up{job="ray"} == 0)[1h:2s])) or vector(0)',
            "samples of the largest scrape": "max(max_over_time(scrape_samples_scraped[1h]))",
        }
        with Prometheus(self.run.prometheus_url) as prometheus:
            found = {name: prometheus.query(query) for name, query in queries.items()}
        return {name: float(vector[0]["value"][1]) for name, vector in found.items() if vector}


def ahead(command: Sequence[str]) -> list[str]:
    """The command at the priority of what watches."""
    return ["nice", "-n", str(WATCHING_NICE), *command]


def put_ahead(leaders: Sequence[psutil.Process]) -> None:
    """Let a part come before the load, but no worker of Ray's.

    A worker begins at the priority of the raylet's main thread, which starts it, and imports for seconds. Where Linux
    groups processes by session, priorities count within one only: Ray's nodes stay equals, and the others come first.
    """
    for leader in leaders:
        raylets = [child for child in leader.children(recursive=True) if child.name() == "raylet"]
        for raylet in raylets:
            raylet.nice(USUAL_NICE)
        group = Path(f"/proc/{leader.pid}/autogroup")
        if not raylets and group.exists():
            group.write_text(str(WATCHING_NICE))


def kill_all(processes: list[psutil.Process]) -> None:
    """kill -9, all at once, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)
