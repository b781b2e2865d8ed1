"""The configuration of each component of the compose stack, before the component itself wherever it can be had.

Prometheus, the blackbox exporter: from Debian. Collector, Loki, Tempo: on the PATH or in .tools; a line says which was
not there. Grafana has no checker: its files are held against the fields that its Go structs and its documentation name.
"""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import ROOT
from demo.stack.components.prometheus import prometheus_config
from demo.stack.ports import Ports
from demo.stack.run import Run
from servescope.catalog import metric_of_sample
from servescope.dashboards import all_dashboards
from servescope.settings import Settings
from tests.support import markdown, promtool
from tests.support.compose_files import BASE, LOGIN, parsed, pins, requires_compose


def found(name: str, hint: str) -> Any:
    """A program on the PATH or in .tools as a parameter; the test is skipped with the reason where there is none."""
    path = next((str(p) for p in (ROOT / ".tools" / name, shutil.which(name)) if p and Path(p).is_file()), None)
    return pytest.param(path, id=name, marks=pytest.mark.skipif(path is None, reason=f"{name} is not here: {hint}"))


def checked(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Prometheus and the blackbox exporter


def _with_rules_of_here(text: str) -> str:
    """Where the containers see the rules is not where they are here."""
    for there, here in (("/etc/servescope-rules", "alerts"), ("/etc/servescope-demo-rules", "demo/slo")):
        assert there in text
        text = text.replace(there, str(ROOT / here))
    return text


@promtool.requires_promtool
def test_promtool_accepts_prometheus(tmp_path):
    text = (ROOT / "prometheus/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(_with_rules_of_here(text))
    result = promtool.run("check", "config", tmp_path / "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 rule files found" in result.stdout


@promtool.requires_promtool
@pytest.mark.parametrize(
    ("old", "new"),
    [("scrape_interval: 15s", "scrape_interval: often"), ("job_name: loki", "job_name: ray"), ("rule_files", "rules")],
)
def test_promtool_refuses(old, new, tmp_path):
    text = (ROOT / "prometheus/prometheus.yml").read_text()
    assert old in text
    (tmp_path / "prometheus.yml").write_text(text.replace(old, new))
    assert promtool.run("check", "config", "--syntax-only", tmp_path / "prometheus.yml").returncode != 0


BLACKBOX = found("prometheus-blackbox-exporter", "make tools installs it")


@pytest.mark.parametrize("program", [BLACKBOX])
def test_the_blackbox_exporter_accepts_its_modules(program, tmp_path):
    result = checked(program, "--config.check", f"--config.file={ROOT / 'blackbox/blackbox.yml'}")
    assert result.returncode == 0, result.stderr
    broken = tmp_path / "blackbox.yml"
    broken.write_text((ROOT / "blackbox/blackbox.yml").read_text().replace("prober: http", "probe: http"))
    assert checked(program, "--config.check", f"--config.file={broken}").returncode != 0


def test_the_demo_probes_as_the_compose_stack_does(tmp_path):
    run = Run(
        directory=tmp_path, ports=Ports.from_base(30000), serve_config=ROOT / "demo/serve_config.yaml", probes=True
    )
    document = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    (theirs,) = [job for job in document["scrape_configs"] if job["job_name"] == "probe"]
    (ours,) = [job for job in prometheus_config(run)["scrape_configs"] if job["job_name"] == "probe"]
    text = json.dumps(ours).replace(run.serve_url, "http://ray-head:8000")
    assert json.loads(text.replace(f"127.0.0.1:{run.ports.blackbox}", "blackbox:9115")) == theirs
    without = prometheus_config(dataclasses.replace(run, probes=False))
    assert "probe" not in [job["job_name"] for job in without["scrape_configs"]]


# ---------------------------------------------------------------------------------------------------------------------
# Collector, Loki, Tempo


COLLECTOR = sorted((ROOT / "otel").glob("*.yaml"))
CONFIGURATIONS = [path for path in COLLECTOR if path.name != "builder.yaml"]


@pytest.mark.parametrize("program", [found("otelcol", "make tools builds it where Go is, from otel/builder.yaml")])
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_collector_accepts_its_pipelines(program, path, tmp_path):
    data = {"COLLECTOR_DATA": str(tmp_path), "OTEL_STATE": str(tmp_path)}
    result = checked(program, "validate", f"--config={path}", **data)
    assert result.returncode == 0, result.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(path.read_text().replace("\nexporters:", "\nexportres:"))
    assert checked(program, "validate", f"--config={broken}", **data).returncode != 0


def builder() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "otel/builder.yaml").read_text())
    return document


def test_the_builder_has_the_components_that_are_used_and_no_others():
    kinds = ("receivers", "processors", "connectors", "exporters", "extensions")
    documents = [yaml.safe_load(path.read_text()) for path in CONFIGURATIONS]
    assert len(documents) == 3
    used = {
        # `otlp_grpc` is the type of the module otlpexporter; every other type is its module's name.
        (kind, name.split("/")[0].replace("_", "").replace("otlpgrpc", "otlp"))
        for document in documents
        for kind in kinds
        for name in document.get(kind, {})
    }
    built = {
        (kind, entry["gomod"].split()[0].rpartition("/")[2].removesuffix(kind.removesuffix("s")))
        for kind in kinds
        for entry in builder()[kind]
    }
    assert len(built) > 15
    assert used == built


def test_the_collector_that_is_tested_is_the_one_that_compose_runs():
    version = builder()["dist"]["version"]
    assert pins()["COLLECTOR_IMAGE"].rpartition(":")[2] == version
    for kind in ("receivers", "processors", "connectors", "exporters", "extensions"):
        for entry in builder()[kind]:
            assert entry["gomod"].split()[1] == f"v{version}"


def test_one_share_is_sampled_counted_and_shown():
    """The policy and the two filters decide alike, or an exemplar leads to a trace that was not kept."""
    processors = yaml.safe_load((ROOT / "otel/collector.yaml").read_text())["processors"]
    policies = {policy["name"]: policy for policy in processors["tail_sampling"]["policies"]}
    (share,) = policies["share"]["ottl_condition"]["span"]
    (slow,) = policies["slow"]["ottl_condition"]["span"]
    assert policies["errors"]["status_code"]["status_codes"] == ["ERROR"]
    assert ">= ${env:SLOW_MS:-2000} * 1000000 and not " in slow
    kept = f"span.status.code == STATUS_CODE_ERROR or ({slow}) or {share}"
    assert processors["filter/counted"]["traces"]["span"] == [kept]
    assert processors["filter/exemplars"]["traces"]["span"] == [f"not ({kept})"]


@pytest.mark.parametrize("program", [found("loki", "put its binary on the PATH or into .tools")])
def test_loki_accepts_its_config(program, tmp_path):
    arguments = ("-verify-config", "-config.expand-env=true")
    result = checked(program, *arguments, f"-config.file={ROOT / 'loki/loki.yml'}")
    assert result.returncode == 0, result.stderr
    broken = tmp_path / "loki.yml"
    broken.write_text((ROOT / "loki/loki.yml").read_text().replace("schema: v13", "schema: v99"))
    assert checked(program, *arguments, f"-config.file={broken}").returncode != 0


@pytest.mark.parametrize("program", [found("tempo", "put its binary on the PATH or into .tools")])
def test_tempo_accepts_its_config(program, tmp_path):
    result = checked(program, "-config.verify", f"-config.file={ROOT / 'tempo/tempo.yaml'}")
    assert result.returncode == 0, result.stderr
    broken = tmp_path / "tempo.yaml"
    broken.write_text((ROOT / "tempo/tempo.yaml").read_text() + "\ningester: {}\n")
    assert checked(program, "-config.verify", f"-config.file={broken}").returncode != 0


def test_tempo_uses_no_block_that_version_3_removed():
    document = yaml.safe_load((ROOT / "tempo/tempo.yaml").read_text())
    # The blocks of Tempo 3's configuration struct.
    known = {
        "target",
        "server",
        "internal_server",
        "distributor",
        "live_store_client",
        "querier",
        "query_frontend",
        "metrics_generator",
        "ingest",
        "block_builder",
        "storage",
        "overrides",
        "memberlist",
        "usage_report",
        "cache",
        "backend_scheduler",
        "backend_scheduler_client",
        "backend_worker",
        "live_store",
        "memory",
        "auth_enabled",
        "multitenancy_enabled",
        "shutdown_delay",
        "stream_over_http_enabled",
        "http_api_prefix",
    }
    assert set(document) <= known
    assert document["usage_report"]["reporting_enabled"] is False


def test_loki_stores_structured_metadata_and_calls_nobody():
    document = yaml.safe_load((ROOT / "loki/loki.yml").read_text())
    (schema,) = document["schema_config"]["configs"]
    assert (schema["schema"], schema["store"]) == ("v13", "tsdb")
    assert document["limits_config"]["allow_structured_metadata"] is True
    assert document["analytics"]["reporting_enabled"] is False


# ---------------------------------------------------------------------------------------------------------------------
# Grafana

# Fields of the structs that read the files: an unknown one is silently ignored.
DATASOURCE_FILE = {"apiVersion", "prune", "datasources", "deleteDatasources"}
DATASOURCE = {
    "orgId",
    "orgName",
    "version",
    "name",
    "type",
    "access",
    "url",
    "user",
    "database",
    "basicAuth",
    "basicAuthUser",
    "withCredentials",
    "isDefault",
    "correlations",
    "jsonData",
    "secureJsonData",
    "editable",
    "uid",
}
PROVIDER_FILE = {"apiVersion", "providers"}
PROVIDER = {
    "name",
    "type",
    "orgId",
    "folder",
    "folderUid",
    "editable",
    "options",
    "disableDeletion",
    "allowUiUpdates",
    "updateIntervalSeconds",
}
JSON_DATA: dict[str, Any] = {
    "prometheus": {
        "httpMethod": None,
        "prometheusType": None,
        "timeInterval": None,
        "exemplarTraceIdDestinations": {"name": None, "datasourceUid": None, "url": None, "urlDisplayLabel": None},
    },
    "loki": {
        "maxLines": None,
        "derivedFields": {
            **{"name": None, "matcherType": None, "matcherRegex": None},
            **{"url": None, "datasourceUid": None, "urlDisplayLabel": None},
        },
    },
    "tempo": {
        "tracesToLogsV2": {
            **{"datasourceUid": None, "spanStartTimeShift": None, "spanEndTimeShift": None, "query": None},
            **{"customQuery": None, "filterByTraceID": None, "filterBySpanID": None, "tags": None},
        },
        "tracesToMetrics": {
            **{"datasourceUid": None, "spanStartTimeShift": None, "spanEndTimeShift": None},
            **{"tags": {"key": None, "value": None}, "queries": {"name": None, "query": None}},
        },
        "serviceMap": {"datasourceUid": None},
        "nodeGraph": {"enabled": None},
    },
    "alertmanager": {"implementation": None, "handleGrafanaManagedAlerts": None},
}


def unknown(value: Any, fields: Any, path: str = "") -> list[str]:
    """The fields of a document that no struct has."""
    if isinstance(value, list):
        return [line for item in value for line in unknown(item, fields, path)]
    if not isinstance(value, dict) or fields is None:
        return []
    lines = [f"{path}.{key}" for key in value if key not in fields]
    for key in value:
        lines += unknown(value[key], fields[key], f"{path}.{key}") if key in fields else []
    return lines


def datasource_faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with a file of data sources."""
    faults = [key for key in document if key not in DATASOURCE_FILE]
    uids = {source.get("uid") for source in document["datasources"]}
    for source in document["datasources"]:
        faults += [key for key in source if key not in DATASOURCE]
        faults += unknown(source.get("jsonData", {}), JSON_DATA[source["type"]], source["type"])
        for uid in re.findall(r"'datasourceUid': '(\w+)'", repr(source)):
            faults += [] if uid in uids else [f"{source['name']}: no data source {uid}"]
        # Grafana puts variables of its environment in place of $name; a dollar sign is $$.
        faults += [f"{source['name']}: {dollar}" for dollar in re.findall(r"(?<!\$)\$(?!\$)[{\w]+", repr(source))]
    return faults


def datasources() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "grafana/provisioning/datasources/servescope.yml").read_text())
    return document


def test_grafana_knows_every_field_of_the_data_sources():
    assert datasource_faults(datasources()) == []
    assert [source["isDefault"] for source in datasources()["datasources"] if "isDefault" in source] == [True]


@pytest.mark.parametrize(
    ("where", "key", "value", "fault"),
    [
        ((), "datasource", [], "datasource"),
        (("datasources", 0), "adress", "x", "adress"),
        (("datasources", 0, "jsonData"), "interval", "15s", "prometheus.interval"),
        (("datasources", 1, "jsonData", "derivedFields", 0), "datasourceUid", "nobody", "Loki: no data source nobody"),
        (("datasources", 2, "jsonData", "tracesToLogsV2"), "query", "${__trace.traceId}", "Tempo: ${__trace"),
    ],
)
def test_a_broken_data_source_is_refused(where, key, value, fault):
    document = datasources()
    inner: Any = document
    for step in where:
        inner = inner[step]
    inner[key] = value
    assert fault in datasource_faults(document)


def test_the_links_between_the_signals():
    sources = {source["uid"]: source["jsonData"] for source in datasources()["datasources"]}
    assert [d["datasourceUid"] for d in sources["prometheus"]["exemplarTraceIdDestinations"]] == ["tempo"]
    fields = {field["matcherRegex"]: field.get("datasourceUid") for field in sources["loki"]["derivedFields"]}
    # A query for Loki itself would be in a field that Loki does not read: a request opens the dashboard instead.
    assert fields == {"trace_id": "tempo", "request_id": None}
    (request,) = [field for field in sources["loki"]["derivedFields"] if field["matcherRegex"] == "request_id"]
    (board,) = [board for board in all_dashboards(Settings()) if f"/d/{board.uid}?" in request["url"]]
    names = {variable.name for variable in board.variables}
    assert re.findall(r"var-(\w+)=\$\$\{__value\.raw\}", request["url"]) == ["request_id"]
    assert "request_id" in names
    assert sources["tempo"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert sources["tempo"]["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert sources["tempo"]["serviceMap"]["datasourceUid"] == "prometheus"


def test_the_page_about_traces_shows_the_settings_that_ship():
    """Every Grafana setting in docs/tracing.md is one that the bundle uses."""

    def within(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(key in whole and within(value, whole[key]) for key, value in part.items())
        if isinstance(part, list):
            return all(any(within(item, candidate) for candidate in whole) for item in part)
        return bool(part == whole)

    (text,) = [
        body for _, body in markdown.read(ROOT / "docs/tracing.md").fences if "exemplarTraceIdDestinations" in body
    ]
    ours = {source["type"]: source["jsonData"] for source in datasources()["datasources"]}
    reported = [document["jsonData"] for document in yaml.safe_load_all(text)]
    assert [set(part) for part in reported] == [
        {"exemplarTraceIdDestinations"},
        {"tracesToLogsV2", "serviceMap"},
        {"derivedFields"},
    ]
    for kind, part in zip(("prometheus", "tempo", "loki"), reported, strict=True):
        assert within(part, ours[kind]), kind


def test_the_queries_from_traces_use_metrics_that_exist():
    tempo = next(source for source in datasources()["datasources"] if source["uid"] == "tempo")
    names = re.findall(r"\b(?:ray|servescope)_\w+", repr(tempo["jsonData"]["tracesToMetrics"]["queries"]))
    assert names
    for name in names:
        metric_of_sample(name)  # raises for a name that Ray does not export


def test_grafana_knows_every_field_of_the_dashboard_folders():
    document = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/servescope.yml").read_text())
    assert set(document) <= PROVIDER_FILE
    for provider in document["providers"]:
        assert set(provider) <= PROVIDER
        assert set(provider["options"]) <= {"path", "foldersFromFilesStructure"}
    assert [provider["folder"] for provider in document["providers"]] == ["servescope", "Ray"]


@requires_compose
def test_the_dashboards_are_where_grafana_looks():
    document = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/servescope.yml").read_text())
    ours, rays = (provider["options"]["path"] for provider in document["providers"])
    volumes = {v["target"]: v["source"] for v in parsed(BASE)["services"]["grafana"]["volumes"]}
    assert Path(volumes[ours]) == ROOT / "dashboards/recorded"
    assert list(Path(volumes[ours]).glob("servescope-overview.json"))
    # Ray's, in its session, through the volume of the head at the very path that the link in it names.
    assert rays.startswith("/tmp/ray/session_latest/")
    assert volumes["/tmp/ray"] == "ray-head"


def ini(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.read_string(text)
    return parser


# Settings that Grafana reads, by section; it silently ignores others.
INI = {
    "auth.anonymous": {"enabled", "org_role", "org_name", "hide_version"},
    "auth": {"disable_login_form"},
    "auth.basic": {"enabled"},
    "security": {"disable_initial_admin_creation", "disable_gravatar", "allow_embedding"},
    "users": {"allow_sign_up", "allow_org_create", "viewers_can_edit"},
    "dashboards": {"default_home_dashboard_path", "min_refresh_interval"},
    "analytics": {"reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled"},
    "news": {"news_feed_enabled"},
    "snapshots": {"external_enabled"},
    "plugins": {
        "preinstall_disabled",
        "preinstall_auto_update",
        "public_key_retrieval_disabled",
        "plugin_admin_enabled",
    },
    "log": {"mode", "level"},
}


def test_grafana_ini():
    found = ini((ROOT / "grafana/grafana.ini").read_text())
    for section in found.sections():
        assert set(found[section]) <= INI[section], section
    assert found["auth.anonymous"]["enabled"] == "true"
    assert found["auth.anonymous"]["org_role"] == "Viewer"
    assert found["auth"]["disable_login_form"] == "true"
    assert found["auth.basic"]["enabled"] == "false"
    assert found["security"]["disable_initial_admin_creation"] == "true", "or admin/admin would be there"
    assert found["users"]["allow_sign_up"] == "false"
    assert found["analytics"]["reporting_enabled"] == "false"
    assert found["analytics"]["check_for_updates"] == "false"
    assert found["analytics"]["check_for_plugin_updates"] == "false"
    home = found["dashboards"]["default_home_dashboard_path"]
    assert Path(home).name == "servescope-overview.json"
    assert (ROOT / "dashboards/recorded" / Path(home).name).is_file()


@requires_compose
def test_the_environment_overrides_settings_of_the_file():
    found = ini((ROOT / "grafana/grafana.ini").read_text())
    environment = parsed(BASE, LOGIN)["services"]["grafana"]["environment"]
    for key in environment:
        if key in ("GF_PATHS_CONFIG", "GF_PATHS_PROVISIONING", "GF_SECURITY_ADMIN_PASSWORD__FILE"):
            continue
        names = {f"GF_{section.replace('.', '_')}_{name}".upper() for section in INI for name in INI[section]}
        assert key in names
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "false"
    assert found["auth"]["disable_login_form"] == "true"
