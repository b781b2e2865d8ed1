"""The compose files: Compose takes them, every service is hardened, and every file names the same ports."""

from __future__ import annotations

import fnmatch
import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import ROOT
from scripts import services as services_table
from servescope.settings import Settings
from tests.support.compose_files import BASE, GPU, LOGIN, compose, parsed, pins, requires_compose

pytestmark = requires_compose

ALL = {
    "prepare",
    "ray-head",
    "ray-worker",
    "app",
    "load",
    "exporter",
    "prometheus",
    "alertmanager",
    "blackbox",
    "grafana",
    "loki",
    "tempo",
    "otel-collector",
    "fluent-bit-head",
    "fluent-bit-worker",
}
# The one service that ends: it lays out the program of the others' health checks, and folders that belong to root.
ENDS = "prepare"
ROOT_USER = {
    "prepare": "opens the volumes, which belong to root",
    "dcgm-exporter": "DCGM's profiling metrics are for administrators only",
}
CAPABILITIES = {"dcgm-exporter": ["SYS_ADMIN"]}
# The port on which each service answers others, as its own configuration or its documentation says.
PORTS = {
    "ray-head": {8000, 8265, 6379},
    "exporter": {9475},
    "prometheus": {9090},
    "alertmanager": {9093},
    "blackbox": {9115},
    "grafana": {3000},
    "loki": {3100},
    "tempo": {3200, 4317, 4318},
    "otel-collector": {4317, 4318, 8888, 8889, 13133},
    "fluent-bit-head": {2020, 2021},
    "fluent-bit-worker": {2020, 2021},
    "dcgm-exporter": {9400},
}
OURS = ("servescope-demo", "servescope-exporter")  # images that are built here
PUBLISHED = {
    ("ray-head", 8000),
    ("ray-head", 8265),
    ("load", 8089),
    ("grafana", 3000),
    ("prometheus", 9090),
    ("alertmanager", 9093),
}


def services(*files: str) -> dict[str, Any]:
    found: dict[str, Any] = parsed(*files)["services"]
    return found


def each_service() -> list[Any]:
    """Every service of every combination of files, with those it changes."""
    return [
        pytest.param(name, service, id=f"{'+'.join(files)}:{name}")
        for files in ((BASE,), (BASE, GPU), (BASE, LOGIN))
        for name, service in sorted(services(*files).items())
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Compose takes them


@pytest.mark.parametrize("files", [(BASE,), (BASE, GPU), (BASE, LOGIN), (BASE, GPU, LOGIN)], ids="+".join)
def test_compose_takes_the_files(files):
    names = [part for name in files for part in ("-f", name)]
    done = compose(*names, "config", "-q", GRAFANA_ADMIN_PASSWORD_FILE="/dev/null")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("    imagee: x", "imagee"), ("    depends_on: [nobody]", "nobody"), ("    volumes: ['lost:/x']", "lost")],
)
def test_compose_refuses_a_broken_file(line, complaint, tmp_path):
    (tmp_path / BASE).write_text(f"services:\n  one:\n    image: x\n{line}\n")
    done = compose("config", "-q", folder=tmp_path)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_without_the_pins_nothing_starts(tmp_path):
    done = compose("--env-file", "/dev/null", "config", "-q")
    assert done.returncode != 0
    assert "is pinned in .env" in done.stderr


def test_the_table_in_the_readme_is_made_from_the_files():
    text = (ROOT / "README.md").read_text()
    assert text.count(services_table.BEGIN) == text.count(services_table.END) == 1
    assert text == services_table.replaced(text), "`make generate` writes it"
    table = services_table.table()
    for name in {*services(BASE), *services(BASE, GPU)}:
        assert f"| {name} |" in table
    for name, port in PUBLISHED:
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
        assert f"http://localhost:{port}" in line
    for name in ("grafana", "loki", "tempo", "prometheus"):
        version = pins()[f"{name.upper()}_IMAGE"].rpartition(":")[2].removeprefix("v")
        assert f"| {version} |" in table


def test_the_services():
    assert set(services(BASE)) == ALL
    assert set(services(BASE, GPU)) == ALL | {"dcgm-exporter"}


# ---------------------------------------------------------------------------------------------------------------------
# Hardening


@pytest.mark.parametrize(("name", "service"), each_service())
def test_every_service_is_hardened(name, service):
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == CAPABILITIES.get(name, [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert service.get("network_mode") is None
    assert service.get("pid") is None
    assert service["logging"]["driver"] == "json-file"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert int(service["mem_limit"]) >= 16 * 2**20
    if name == ENDS:
        assert service["restart"] == "no"
        assert "healthcheck" not in service
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert seconds(check["start_period"]) >= 60
    assert check["retries"] * seconds(check["interval"]) >= 60


@pytest.mark.parametrize(("name", "service"), each_service())
def test_who_runs_as_root_says_why(name, service):
    # Our images name their user in their Dockerfile.
    user = service.get("user") or ("1000:1000" if service["image"].startswith(OURS) else "root")
    assert (user == "root") == (name in ROOT_USER)
    assert not user.startswith("0")


@pytest.mark.parametrize("files", [(BASE,), (BASE, GPU)], ids="+".join)
def test_each_image_of_ours_is_built_once_and_never_pulled(files):
    built: dict[str, list[str]] = {}
    for name, service in services(*files).items():
        if service["image"].startswith(OURS):
            assert service["pull_policy"] == ("build" if "build" in service else "never")
            built.setdefault(service["image"], []).extend([name] if "build" in service else [])
    wanted = {"servescope-demo": ["ray-head"], "servescope-exporter": ["exporter"]}
    wanted |= {"servescope-demo-gpu": ["ray-worker"]} if GPU in files else {}
    assert built == wanted
    # Compose builds before it creates; who uses the image waits for who builds it.
    for name, service in services(*files).items():
        if service["image"] == "servescope-demo" and name != "ray-head":
            assert "ray-head" in upstream(services(*files), name)


def test_the_workflow_knows_the_pins():
    document = yaml.safe_load((ROOT / ".github/workflows/compose.yml").read_text())
    older = {name for name in pins() if re.fullmatch(r"GRAFANA_\d+_IMAGE", name)}
    assert set(document["jobs"]["grafana"]["strategy"]["matrix"]["pin"]) == older
    assert [pins()[name].rpartition(":")[2].partition(".")[0] for name in sorted(older)] == ["10", "11", "12"]


@pytest.mark.parametrize("dockerfile", ["demo/Dockerfile", "exporter/Dockerfile"])
def test_an_image_of_ours_is_not_root(dockerfile):
    lines = (ROOT / dockerfile).read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 1000:1000"]
    assert lines.index(users[0]) > max(index for index, line in enumerate(lines) if line.startswith("FROM "))


def test_the_agents_read_as_the_user_that_runs_ray():
    for agent in ("fluent-bit-head", "fluent-bit-worker"):
        assert services(BASE)[agent]["user"] == "1000:1000"


@pytest.mark.parametrize(("name", "service"), each_service())
def test_ports_are_on_loopback(name, service):
    for port in service.get("ports", []):
        assert port["host_ip"] == "127.0.0.1"
        assert port["published"] == str(port["target"])


def test_what_is_published():
    found = {(name, port["target"]) for name, s in services(BASE).items() for port in s.get("ports", [])}
    assert found == PUBLISHED
    assert found == {(name, port["target"]) for name, s in services(BASE, GPU).items() for port in s.get("ports", [])}


@pytest.mark.parametrize(("name", "service"), each_service())
def test_dependencies_wait_for_health(name, service):
    for other, how in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other == ENDS else "service_healthy"
        assert how["condition"] == wanted
    # The one that ends must be awaited by somebody, or `up --wait` takes its end for a failure.
    if name != ENDS:
        assert ENDS in upstream(services(BASE, GPU), name)


def upstream(found: dict[str, Any], name: str) -> set[str]:
    """All that a service waits for, directly or not."""
    direct = set(found[name].get("depends_on", {}))
    return direct.union(*(upstream(found, other) for other in direct))


@pytest.mark.parametrize(("name", "service"), each_service())
def test_the_program_of_a_health_check_is_there(name, service):
    if name == ENDS:
        return
    test = service["healthcheck"]["test"]
    if test[1] == "/probe/busybox":
        assert test[2:6] == ["wget", "-q", "-O", "/dev/null"]
        mounted = [v for v in service["volumes"] if v["target"] == "/probe"]
        assert [(v["source"], v["read_only"]) for v in mounted] == [("probe", True)]
    else:
        assert test[1:] == ["python", "-m", "demo.deploy", "--check"]


@pytest.mark.parametrize(("name", "service"), each_service())
def test_configuration_is_mounted_read_only_and_data_in_named_volumes(name, service):
    declared = set(parsed(BASE, GPU)["volumes"])
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            assert volume["read_only"] is True
            assert Path(volume["source"]).is_dir(), "a file that is replaced would stay the old one in the container"
        else:
            assert volume["source"] in declared


@pytest.mark.parametrize(("name", "service"), each_service())
def test_no_mount_lies_in_a_read_only_folder_of_ours(name, service):
    # Docker could not make the mount point there, and the container would not start.
    targets = [volume["target"] for volume in service.get("volumes", [])]
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            inside = [target for target in targets if target.startswith(f"{volume['target']}/")]
            assert inside == []


def test_every_volume_has_one_writer():
    writers: dict[str, list[str]] = {}
    for name, service in services(BASE, GPU).items():
        for volume in service.get("volumes", []):
            if volume["type"] == "volume" and not volume.get("read_only"):
                writers.setdefault(volume["source"], []).append(name)
    for source, names in writers.items():
        assert len([name for name in names if name != ENDS]) <= 1, source
    assert set(writers) == set(parsed(BASE)["volumes"])
    assert writers["ray-head"] == ["ray-head"]
    assert writers["ray-worker"] == ["ray-worker"]


def test_no_secret_and_no_password_is_in_the_files():
    for files in ((BASE,), (BASE, GPU), (BASE, LOGIN)):
        for service in services(*files).values():
            for key, value in (service.get("environment") or {}).items():
                if re.search("PASSWORD|TOKEN|SECRET|KEY", key):
                    assert str(value).startswith("/run/secrets/"), key


def test_all_limits_together_are_at_most_six_gibibytes():
    assert sum(int(service["mem_limit"]) for service in services(BASE).values()) <= 6 * 2**30


# ---------------------------------------------------------------------------------------------------------------------
# GPU and login


def test_the_exporter_has_an_image_of_its_own():
    exporter = services(BASE)["exporter"]
    assert exporter["image"] == "servescope-exporter"
    assert exporter["build"]["dockerfile"] == "exporter/Dockerfile"
    assert exporter["build"]["args"] == {"PYTHON_IMAGE": pins()["PYTHON_IMAGE"]}
    assert exporter.get("user") is None
    assert exporter["read_only"] is True
    text = (ROOT / "exporter/Dockerfile").read_text()
    assert 'ENTRYPOINT ["python3", "-m", "servescope", "exporter"]' in text
    assert exporter["command"] == ["--address=http://ray-head:8265", "--host=0.0.0.0"]
    assert "requirements/demo" not in text


@pytest.mark.parametrize("dockerfile", ["demo/Dockerfile", "exporter/Dockerfile"])
def test_what_a_dockerfile_copies_reaches_the_builder(dockerfile):
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / dockerfile).read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for path in copied:
        path = path.replace("${REQUIREMENTS}", "demo-gpu.txt")
        assert (ROOT / path).exists(), path
        assert any(fnmatch.fnmatch(path, let) or path.startswith(f"{let}/") for let in let_in), path


def test_the_gpu_file_reserves_gpus_for_the_worker_and_dcgm():
    found = services(BASE, GPU)
    reserved = {
        name: service["deploy"]["resources"]["reservations"]["devices"]
        for name, service in found.items()
        if "deploy" in service
    }
    assert set(reserved) == {"ray-worker", "dcgm-exporter"}
    for devices in reserved.values():
        (device,) = devices
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
        assert str(device["count"]) in ("-1", "all")
    assert found["ray-worker"]["image"] == "servescope-demo-gpu"
    assert found["ray-worker"]["build"]["args"] == {
        "PYTHON_IMAGE": pins()["PYTHON_IMAGE"],
        "REQUIREMENTS": "demo-gpu.txt",
    }
    assert "--num-gpus=0" not in found["ray-worker"]["command"], "Ray counts the GPUs"
    assert "--num-gpus=0" in found["ray-head"]["command"]
    assert "--num-gpus=0" in services(BASE)["ray-worker"]["command"]
    assert float(found["app"]["environment"]["DEMO_NUM_GPUS"]) > 0
    assert not any("deploy" in service for service in services(BASE).values())


def test_the_gpu_file_changes_the_worker_in_nothing_else():
    plain, gpu = services(BASE)["ray-worker"]["command"], services(BASE, GPU)["ray-worker"]["command"]
    assert [argument for argument in plain if argument != "--num-gpus=0"] == gpu


def test_login_needs_a_password_file():
    without = compose("-f", BASE, "-f", LOGIN, "config", "-q", GRAFANA_ADMIN_PASSWORD_FILE="")
    assert without.returncode != 0
    assert "names the file that holds the password" in without.stderr
    grafana = services(BASE, LOGIN)["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin_password"
    assert [secret["source"] for secret in grafana["secrets"]] == ["grafana_admin_password"]
    assert "GF_SECURITY_ADMIN_PASSWORD__FILE" not in services(BASE)["grafana"]["environment"]


# ---------------------------------------------------------------------------------------------------------------------
# Pins


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_every_image_is_pinned_in_env():
    found = services(BASE, GPU)
    used = {service["image"] for service in found.values() if not service["image"].startswith(OURS)}
    used |= {service["build"]["args"]["PYTHON_IMAGE"] for service in found.values() if "build" in service}
    assert used == {image for name, image in pins().items() if not re.fullmatch(r"GRAFANA_\d+_IMAGE", name)}
    for name, image in pins().items():
        assert name.endswith("_IMAGE")
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*", image), f"{image}: not a fixed version"


def test_no_image_is_pinned_anywhere_else():
    names = "|".join(re.escape(image.rpartition(":")[0]) for image in pins().values())
    pin = re.compile(rf"(?<![\w/.-])(?:docker\.io/)?({names})(?::v?\d|@sha256)")
    for image in pins().values():
        assert pin.search(f"image: {image}")
    for path in tracked():
        if path.name == ".env" or not path.is_file() or path.suffix in (".gz", ".png"):
            continue
        found = pin.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()} belongs into .env"


def test_renovate_finds_every_pin():
    rules = json.loads((ROOT / "renovate.json").read_text())
    images, release, modules, *_ = rules["customManagers"]

    def matches(manager: dict[str, Any], file: str) -> list[Any]:
        assert manager["managerFilePatterns"] == [f"/^{re.escape(file)}$/"]
        (expression,) = manager["matchStrings"]
        return re.findall(expression.replace("(?<", "(?P<"), (ROOT / file).read_text(), re.MULTILINE)

    assert [":".join(pair) for pair in matches(images, ".env")] == list(pins().values())
    document = yaml.safe_load((ROOT / "otel/builder.yaml").read_text())
    assert matches(release, "otel/builder.yaml") == [document["dist"]["version"]]
    assert release["depNameTemplate"] == pins()["COLLECTOR_IMAGE"].rpartition(":")[0]
    gomods = [entry["gomod"] for part in document.values() if isinstance(part, list) for entry in part]
    assert [" ".join(pair) for pair in matches(modules, "otel/builder.yaml")] == gomods
    (group,) = [rule for rule in rules["packageRules"] if rule.get("groupName") == "OpenTelemetry Collector"]
    prefixes = [name.removesuffix("**") for name in group["matchPackageNames"]]
    assert release["depNameTemplate"] in prefixes
    assert all(module.startswith(tuple(prefixes)) for module in gomods)


# ---------------------------------------------------------------------------------------------------------------------
# One service, one port, everywhere


def prometheus() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    return document


def datasources() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "grafana/provisioning/datasources/servescope.yml").read_text())
    return {source["uid"]: source for source in document["datasources"]}


def addresses() -> list[tuple[str, str]]:
    """(location, host:port) for every address of another service in a file that a service reads."""
    found = []
    for job in prometheus()["scrape_configs"]:
        for group in job.get("static_configs", []):
            found += [(f"job {job['job_name']}", re.sub("^https?://|/-/.*$", "", t)) for t in group["targets"]]
        found += [(f"job {job['job_name']}", group["url"].split("/")[2]) for group in job.get("http_sd_configs", [])]
        found += [
            (f"job {job['job_name']}", rule["replacement"])
            for rule in job.get("relabel_configs", [])
            if rule["target_label"] == "__address__"
        ]
    for manager in prometheus()["alerting"]["alertmanagers"]:
        found += [("alerting", target) for group in manager["static_configs"] for target in group["targets"]]
    for group in yaml.safe_load((ROOT / "prometheus/targets/gpu/dcgm.yml").read_text()):
        found += [("gpu targets", target) for target in group["targets"]]
    found += [(f"datasource {uid}", source["url"].partition("://")[2]) for uid, source in datasources().items()]
    for name, service in services(BASE, GPU).items():
        text = json.dumps([service.get("environment"), service.get("command")])
        found += [(name, f"{host}:{port}") for host, port in re.findall(r"(?:https?://|=)([a-z-]+):(\d+)", text)]
        environment = service.get("environment") or {}
        found += [(name, value) for value in environment.values() if re.fullmatch(r"[a-z-]+:\d+", value or "")]
        if "LOGS_HOST" in environment:
            found.append((name, f"{environment['LOGS_HOST']}:{environment['LOGS_PORT']}"))
    return found


def test_every_address_is_a_service_and_one_of_its_ports():
    found = addresses()
    assert len(found) > 30
    for where, address in found:
        host, _, port = address.partition(":")
        if host == "localhost":
            assert (where, port) in {("job prometheus", "9090"), ("ray-head", "3000")}, where
            continue
        assert host in PORTS, f"{where}: {address}: no such service"
        assert int(port) in PORTS[host], f"{where}: {address}: {host} does not listen there"


def test_every_service_that_has_metrics_is_scraped():
    scraped = {address.partition(":")[0] for where, address in addresses() if where.startswith(("job", "gpu"))}
    silent = {"prepare", "app", "load", "ray-worker"}  # Prometheus discovers the worker through the head
    assert scraped - {"localhost"} == set(services(BASE, GPU)) - silent - {"prometheus"}


def test_health_checks_ask_a_port_of_their_own_service():
    own = {**PORTS, "ray-worker": {52365}, "load": {8089}}
    for name, service in services(BASE, GPU).items():
        if name == ENDS or service["healthcheck"]["test"][1] == "python":
            continue
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/.*", service["healthcheck"]["test"][-1])
        assert match, name
        assert int(match.group(1)) in own[name], name


def mounts(name: str, *files: str) -> dict[str, str]:
    """Target to source of a service's volumes; sources in the repository relative to it."""
    found = {}
    for volume in services(*files)[name].get("volumes", []):
        source = volume["source"]
        found[volume["target"]] = str(Path(source).relative_to(ROOT)) if volume["type"] == "bind" else source
    return found


def test_every_configured_file_of_a_service_is_mounted():
    configured = {
        "prometheus": ["/etc/prometheus/prometheus.yml"],
        "alertmanager": ["/etc/alertmanager/alertmanager.yml"],
        "blackbox": ["/etc/blackbox/blackbox.yml"],
        "grafana": ["/etc/servescope/grafana.ini", "/etc/servescope/provisioning"],
        "loki": ["/etc/loki/loki.yml"],
        "tempo": ["/etc/tempo/tempo.yaml"],
        "otel-collector": ["/etc/otel/collector.yaml"],
        "fluent-bit-head": ["/etc/fluent-bit/fluent-bit.yaml"],
        "fluent-bit-worker": ["/etc/fluent-bit/fluent-bit.yaml"],
    }
    for name, paths in configured.items():
        service = services(BASE)[name]
        words = json.dumps([service.get("command"), service.get("environment")])
        for path in paths:
            assert path in words, f"{name} is not configured with {path}"
            assert source_of(name, path).exists(), f"{name}: nothing is mounted at {path}"


def source_of(name: str, path: str, *files: str) -> Path:
    """Where in the repository a path of a service's container comes from."""
    for target, source in sorted(mounts(name, *(files or (BASE,))).items(), reverse=True):
        if path == target or path.startswith(f"{target}/"):
            return ROOT / source / path[len(target) :].lstrip("/")
    return ROOT / "not mounted"


def test_prometheus_reads_our_rules_and_the_gpu_targets():
    found = set()
    for pattern in prometheus()["rule_files"]:
        folder, _, glob = pattern.rpartition("/")
        found |= {str(path.relative_to(ROOT)) for path in source_of("prometheus", folder).glob(glob)}
    assert found == {
        "alerts/servescope-alerts.yml",
        "alerts/servescope-recording.yml",
        "demo/slo/servescope-slo.yml",
    }
    (job,) = [job for job in prometheus()["scrape_configs"] if job["job_name"] == "dcgm"]
    (group,) = job["file_sd_configs"]
    (pattern,) = group["files"]
    folder, _, glob = pattern.rpartition("/")
    assert [path.name for path in source_of("prometheus", folder, BASE, GPU).glob(glob)] == ["dcgm.yml"]
    assert not source_of("prometheus", folder).exists(), "without the GPU file there is no target"
    assert "--enable-feature=exemplar-storage" in services(BASE)["prometheus"]["command"]


def test_the_settings_of_the_bundle_are_those_of_the_stack():
    settings = Settings()
    assert prometheus()["global"]["scrape_interval"] == f"{settings.scrape_interval_s}s"
    assert datasources()["prometheus"]["jsonData"]["timeInterval"] == f"{settings.scrape_interval_s}s"
    for name in ("ray", "servescope", "probe", "traces", "logs"):
        (job,) = [job for job in prometheus()["scrape_configs"] if job["job_name"] == name]
        labels = [group.get("labels", {}) for group in job.get("static_configs", [])]
        labels += [
            {rule["target_label"]: rule["replacement"]}
            for rule in job.get("relabel_configs", [])
            if "replacement" in rule
        ]
        assert {settings.cluster_label: "demo"} in labels, name
    for agent in ("fluent-bit-head", "fluent-bit-worker"):
        assert services(BASE)[agent]["environment"]["CLUSTER"] == "demo"


def test_each_agent_reads_its_own_node_and_names_it():
    for node in ("head", "worker"):
        agent = services(BASE)[f"fluent-bit-{node}"]
        assert mounts(f"fluent-bit-{node}", BASE)["/tmp/ray"] == f"ray-{node}"
        assert agent["environment"]["NODE_NAME"] == f"ray-{node}"
        assert mounts(f"ray-{node}", BASE)["/tmp/ray"] == f"ray-{node}"


def test_ray_knows_prometheus_and_grafana():
    environment = services(BASE)["ray-head"]["environment"]
    assert environment["RAY_PROMETHEUS_HOST"] == "http://prometheus:9090"
    assert environment["RAY_PROMETHEUS_NAME"] == datasources()["prometheus"]["name"]
    assert environment["RAY_GRAFANA_HOST"] == "http://grafana:3000"
    # The browser asks for the frames, so this is an address of the reader's machine.
    assert environment["RAY_GRAFANA_IFRAME_HOST"] == "http://localhost:3000"
    assert ("grafana", 3000) in PUBLISHED


def test_both_nodes_send_their_spans_to_the_collector():
    for node in ("ray-head", "ray-worker"):
        environment = services(BASE)[node]["environment"]
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector:4317"
        module, _, function = environment["RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH"].partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_probe_has_the_instance_that_the_alert_expects():
    (job,) = [job for job in prometheus()["scrape_configs"] if job["job_name"] == "probe"]
    targets = [target for group in job["static_configs"] for target in group["targets"]]
    assert targets == ["http://ray-head:8000/-/healthz", "http://ray-head:8000/-/routes"]
    modules = yaml.safe_load((ROOT / "blackbox/blackbox.yml").read_text())["modules"]
    assert set(job["params"]["module"]) == set(modules)
    rules = (ROOT / "alerts/servescope-alerts.yml").read_text()
    assert "probe_success{" in rules
    assert '/-/healthz"' in rules


def seconds(text: str) -> float:
    """A duration as Compose prints it, such as 1m30s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
