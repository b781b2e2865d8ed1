"""The metrics, panels and alerts of GPUs, compared with a real one and the output of `nvidia-smi`."""

from __future__ import annotations

import csv
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import onnxruntime
import pytest
import yaml

from demo import ROOT, deploy
from demo.app import images
from demo.stack.component import Component
from demo.stack.components import prometheus as prometheus_component
from demo.stack.components.applications import applications
from demo.stack.components.exporter import exporter
from demo.stack.components.ray import ray
from demo.stack.ports import LOOPBACK, Ports
from demo.stack.run import Run
from demo.stack.serve_api import serve_applications
from demo.stack.supervisor import Stack
from servescope import catalog, generate
from servescope.clients.prometheus import Prometheus
from servescope.dashboards import all_dashboards
from servescope.dashboards.cluster.nodes import NEEDS_GPU
from servescope.grafana.templating import Interpolation
from servescope.promql import METHOD
from servescope.report.queries import Window, ask, panels_of, select_variables
from servescope.settings import Settings
from tests.drill import pace
from tests.live.versions import ray_folder
from tests.support.waiting import wait_for

SETTINGS = Settings()
SCALE = 20  # divides every duration, as in the drill: a GPU is idle after an hour and a quarter
SHARE = 0.2  # of the GPU, for each replica
# The panels of GPUs: everything else on the dashboards is proven without one.
ONNX_ON_GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers()

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="nvidia-smi is not on the PATH: no GPU here")


def smi(*fields: str, of: str = "gpu") -> list[dict[str, str]]:
    """What nvidia-smi says: MiB, W, °C, %."""
    command = ["nvidia-smi", f"--query-{of}={','.join(fields)}", "--format=csv,noheader,nounits"]
    reported = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [dict(zip(fields, row, strict=True)) for row in csv.reader(reported.splitlines(), skipinitialspace=True)]


def paced_prometheus(run: Run) -> Component:
    component = prometheus_component.prometheus(run)
    config = run.directory / "prometheus.yml"

    def prepare() -> None:
        assert component.prepare is not None
        component.prepare()
        interval = f"{pace.scaled(SETTINGS.scrape_interval_s, SCALE) * 1000:.0f}ms"
        document = prometheus_component.prometheus_config(run)
        document["global"] = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
        config.write_text(yaml.safe_dump(document, sort_keys=False))

    lookback = f"--query.lookback-delta={pace.scaled(300, SCALE):g}s"
    return replace(component, command=[*component.command, lookback], prepare=prepare)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("gpu")
    rules = directory / "rules.yml"
    rules.write_text(generate.rule_files(SETTINGS, [], SCALE)[Path("servescope-alerts.yml")])
    document = deploy.configuration(ROOT / "demo/serve_config.yaml", LOOPBACK, SHARE)
    if not ONNX_ON_GPU:
        document["applications"] = []
    holder = {"name": "Holder", "ray_actor_options": {"num_cpus": 0.1, "num_gpus": SHARE}}
    document["applications"].append(
        {"name": "gpu", "route_prefix": "/gpu", "import_path": "tests.live.gpu_app:app", "deployments": [holder]}
    )
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    return Run(
        directory=directory,
        ports=Ports.from_base(27000),
        serve_config=config,
        cluster="gpu",
        rules=str(rules),
        ray=ray_folder(),
        env=pace.ray_environment(SCALE),
        gpus=len(smi("index")),
    )


@pytest.fixture(scope="module")
def stack(run: Run) -> Iterator[Stack]:
    parts = [ray, applications, exporter, paced_prometheus]
    with Stack(run, parts, print) as started:
        yield started


@pytest.fixture(scope="module")
def prometheus(stack: Stack, run: Run) -> Iterator[Prometheus]:
    with Prometheus(run.prometheus_url) as client:
        wait_for(lambda: bool(client.query("ray_node_gram_used")), 60, lambda: "no GPU metric at all")
        yield client


def value(prometheus: Prometheus, expression: str) -> float:
    (series,) = prometheus.query(expression)
    return float(series["value"][1])


def firing(prometheus: Prometheus) -> set[str]:
    alerts = prometheus.query('ALERTS{alertstate="firing", alertname=~"RayGpu.*"}')
    return {alert["metric"]["alertname"] for alert in alerts}


def send_command(run: Run, **what: float) -> None:
    httpx.get(f"{run.serve_url}/gpu", params=what, timeout=120).raise_for_status()


@contextmanager
def busy(run: Run, seconds: float) -> Iterator[None]:
    worker = threading.Thread(target=send_command, args=(run,), kwargs={"work": seconds})
    worker.start()
    yield
    worker.join()


def figures(prometheus: Prometheus) -> dict[tuple[str, str], list[float]]:
    """The last figure of each series of each GPU panel, by dashboard and title."""
    window = Window.last(30, 1)
    found: dict[tuple[str, str], list[float]] = {}
    for board in all_dashboards(SETTINGS):
        titles = {panel.title for panel in board.panels if panel.absent == NEEDS_GPU}
        document = board.to_json()
        scope = Interpolation(select_variables(document, prometheus, window, every=True), window.macros())
        for panel in panels_of(document):
            if panel["title"] in titles:
                answers = ask(panel, prometheus, window=window, scope=scope)
                found[board.uid, panel["title"]] = [s.points[-1][1] for a in answers for s in a.series]
    return found


def test_gpu_metrics_are_those_of_the_catalogue(prometheus: Prometheus, run: Run) -> None:
    wanted = [metric for metric in catalog.METRICS if metric.needs == "a GPU"]
    assert len(wanted) == 8

    def lacking() -> list[str]:
        return [metric.name for metric in wanted if not prometheus.query(metric.name)]

    with busy(run, 15):  # the share of a process is reported only while it works
        wait_for(lambda: not lacking(), 14, lambda: f"never exported: {lacking()}")
        labels = {
            metric.name: {label for series in prometheus.query(metric.name) for label in series["metric"]}
            for metric in wanted
        }
    wrong = {}
    for metric in wanted:
        have = labels[metric.name] - {"__name__", SETTINGS.cluster_label}
        if not set(metric.labels) <= have or not have <= set(catalog.allowed_labels(metric)):
            wrong[metric.name] = sorted(have)
    assert wrong == {}


def test_names_memory_power_and_heat_are_what_nvidia_smi_says(prometheus: Prometheus) -> None:
    fields = ("index", "name", "uuid", "memory.total", "memory.free", "power.draw", "temperature.gpu")
    for gpu in smi(*fields):
        this = f'{{GpuIndex="{gpu["index"]}"}}'
        (labels,) = [series["metric"] for series in prometheus.query(f"ray_node_gram_used{this}")]
        assert (labels["GpuDeviceName"], labels["GpuUuid"]) == (gpu["name"], gpu["uuid"])
        total, free = float(gpu["memory.total"]), float(gpu["memory.free"])
        used = value(prometheus, f"ray_node_gram_used{this}")
        assert used + value(prometheus, f"ray_node_gram_available{this}") == pytest.approx(total, rel=0.001)
        assert used == pytest.approx(total - free, abs=0.005 * total)  # what the driver keeps for itself counts as used
        power_w = value(prometheus, f"avg_over_time(ray_node_gpu_power_milliwatts{this}[5s])") / 1000
        assert power_w == pytest.approx(float(gpu["power.draw"]), rel=0.25)
        heat = value(prometheus, f"ray_node_gpu_temperature_celsius{this}")
        assert heat == pytest.approx(float(gpu["temperature.gpu"]), abs=4)


def test_the_alert_of_full_memory_fires_above_its_bound_only(prometheus: Prometheus, run: Run) -> None:
    full = "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)"
    waits_s = pace.scaled(600, SCALE)
    send_command(run, fill=SETTINGS.gpu_memory_ratio - 0.01)
    wait_for(lambda: value(prometheus, f"max({full})") > SETTINGS.gpu_memory_ratio - 0.015, 30, lambda: "not filled")
    held = f"min_over_time(max({full})[{1.5 * waits_s:g}s:1s]) > {SETTINGS.gpu_memory_ratio - 0.015}"
    wait_for(lambda: bool(prometheus.query(held)), 90, lambda: "not filled for long")
    assert firing(prometheus) - {"RayGpuIdleReserved"} == set()
    send_command(run, fill=SETTINGS.gpu_memory_ratio + 0.01)
    wait_for(lambda: "RayGpuMemoryFull" in firing(prometheus), 2 * waits_s, lambda: f"{firing(prometheus)}")
    send_command(run, fill=0)
    wait_for(lambda: "RayGpuMemoryFull" not in firing(prometheus), 30, lambda: f"{firing(prometheus)}")


def test_idle_gpus_alert_only_while_they_are_idle_and_reserved(prometheus: Prometheus, run: Run) -> None:
    idle_s = pace.scaled(4500, SCALE)  # no work in 15 minutes, for an hour
    wait_for(lambda: "RayGpuIdleReserved" in firing(prometheus), 1.3 * idle_s, lambda: f"{firing(prometheus)}")
    with busy(run, 10):
        wait_for(
            lambda: "RayGpuIdleReserved" not in firing(prometheus), 10, lambda: f"{firing(prometheus)}", pause_s=0.5
        )


def test_every_gpu_panel_has_data(prometheus: Prometheus, run: Run) -> None:
    replicas = 3 if ONNX_ON_GPU else 1
    gpus = run.gpus
    with busy(run, 15):
        busiest = "max(max_over_time(ray_node_gpus_utilization[5s]))"
        wait_for(
            lambda: value(prometheus, busiest) > 90, 12, lambda: f"{value(prometheus, busiest)} % busy", pause_s=0.5
        )
        reported = max(float(gpu["utilization.gpu"]) for gpu in smi("utilization.gpu"))
        seen = figures(prometheus)
    assert reported > 90
    assert max(seen["servescope-cluster", "GPU utilization"]) > 90
    assert seen["servescope-cluster", "GPUs allocated"] == pytest.approx([replicas * SHARE / gpus])
    assert len(seen["servescope-cluster", "GPU memory"]) == gpus
    assert all(0 < share < 0.5 for share in seen["servescope-cluster", "GPU memory"])
    assert all(20 < heat < 95 for heat in seen["servescope-cluster", "GPU temperature"])
    assert all(10 < power < 1200 for power in seen["servescope-cluster", "GPU power"])
    # The demo's models may have 2 and 3 replicas.
    ceiling = (6 if ONNX_ON_GPU else 1) * SHARE
    reserved = seen["servescope-capacity", "GPUs: reserved, at max_replicas, cluster total"]
    assert reserved == pytest.approx([replicas * SHARE, ceiling, gpus])
    assert seen["servescope-capacity", "GPU demand at max_replicas"] == pytest.approx([ceiling / gpus])
    assert {name for name, answer in seen.items() if not answer} == set()


@pytest.mark.skipif(not ONNX_ON_GPU, reason="the CUDA build of ONNX Runtime is not installed (requirements/gpu.in)")
def test_the_demo_reads_text_on_the_gpu(prometheus: Prometheus, run: Run) -> None:
    for lines in (["apple bridge"], ["candle dragon", "engine forest"]):
        response = httpx.post(f"{run.serve_url}/read", content=images.draw(lines), timeout=60)
        assert response.status_code == 200, response.text
        assert images.same_text(response.json()["lines"], lines)
    deployments = serve_applications(run)["ocr"]["deployments"]
    pids = {r["pid"] for name in deploy.MODELS for r in deployments[name]["replicas"] if r["state"] == "RUNNING"}
    assert len(pids) == 2
    assert pids <= {int(process["pid"]) for process in smi("pid", of="compute-apps")}
    for name in deploy.MODELS:
        assert value(
            prometheus, f'max(ray_component_gpu_memory_mb{{Component=~"ray::ServeReplica:ocr:{name}{METHOD}"}}) > 0'
        )
