"""Settings: bad ones are refused with a line that names the setting and the reason."""

from __future__ import annotations

import pytest

from servescope.errors import ServescopeError
from servescope.settings import Settings, load


def test_no_file_gives_the_defaults():
    assert load(None) == Settings()
    assert Settings().rate_window == "1m"


@pytest.mark.parametrize(("scrape", "window"), [(5, "1m"), (15, "1m"), (20, "80s"), (30, "2m"), (60, "4m")])
def test_the_rate_window_is_four_scrapes_and_at_least_a_minute(scrape, window):
    assert Settings(scrape_interval_s=scrape).rate_window == window


def test_a_file_overrides_what_it_names(tmp_path):
    path = tmp_path / "settings.yml"
    path.write_text("cluster_label: cluster\nbackpressure_codes: [503]\n")
    assert load(path) == Settings(cluster_label="cluster", backpressure_codes=("503",))


def test_prices_may_be_whole_numbers(tmp_path):
    path = tmp_path / "settings.yml"
    path.write_text("price_per_gpu_hour: 3\n")
    assert load(path).price_per_gpu_hour == 3
    assert load(path).priced
    assert not Settings().priced


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster_label: 9lives", "cluster_label: '9lives' is not a Prometheus label name"),
        ("cluster_label: __name__", "is not a Prometheus label name"),
        ("cluster_label: application", "is a label of Ray's metrics"),
        ("extra_cluster_labels: [namespace, 9lives]", "extra_cluster_labels: '9lives' is not a Prometheus label name"),
        ("extra_cluster_labels: [ray_io_cluster]", "'ray_io_cluster' is named twice among the labels of clusters"),
        ("service_label: application", "service_label: 'application' is a label of Ray's metrics"),
        ("{service_label: a, extra_cluster_labels: [a]}", "'a' is named twice"),
        ("scrape_jobs: 'ray(?!x)'", "scrape_jobs: 'ray(?!x)' is not a regular expression of job names"),
        ("scrape_jobs: 'ray\"'", "is not a regular expression of job names"),
        ("scrape_jobs: '(ray'", "is not a regular expression of job names"),
        ("cluster_label: 7", "cluster_label: expected a string, got 7"),
        ("scrape_interval_s: 0", "scrape_interval_s: 0 is not between 1 and 60 seconds"),
        ("scrape_interval_s: true", "scrape_interval_s: expected an integer, got True"),
        ("backpressure_codes: [200]", "'200' is not an HTTP status code from 400 to 599"),
        ("backpressure_codes: []", "backpressure_codes: empty"),
        ("price_per_gpu_hour: -1", "price_per_gpu_hour: -1.0 is not a price"),
        ("price_per_cpu_hour: .nan", "price_per_cpu_hour: nan is not a price"),
        ("price_per_gpu_hour: true", "price_per_gpu_hour: expected a number, got True"),
        ("dashboard_from: yesterday", "dashboard_from: expected the form now-1h, got 'yesterday'"),
        ("dashboard_refresh: often", "dashboard_refresh: expected the form 30s or '', got 'often'"),
        ("teams: nlp", "teams: expected a mapping, got 'nlp'"),
        ("teams: {chat: nlp}", "default_team: empty; set it beside teams or platform_team"),
        ("platform_team: ray", "default_team: empty; set it beside teams or platform_team"),
        ("teams: {7: nlp}", "teams: 7 is not an application's name (a text, not empty)"),
        ("teams: {'': nlp}", "teams: '' is not an application's name"),
        ('teams: {"a\\nb": nlp}', "teams: application 'a\\nb' contains a line break or a control character"),
        ("hung_minutes: 100001", "hung_minutes: 100001 is not between 1 and 100000"),
        ("replicas_above_usual: .inf", "replicas_above_usual: inf is not between 1 and 100000"),
        ("replicas_above_usual: .nan", "replicas_above_usual: nan is not between 1 and 100000"),
        ("price_per_gpu_hour: 1.0e+300", "price_per_gpu_hour: 1e+300 is not a price; 0 means unknown"),
        ("dashboard_from: now-0h", "dashboard_from: expected the form now-1h, got 'now-0h'"),
        (
            "runbook_url: 'https://x.example/{{ a }}'",
            "runbook_url: holds a character that an address must percent-encode",
        ),
        ("a: 2026-99-99", "not YAML (month must be in 1..12)"),
        (
            "default_team: ml\nteams: {chat: 7}",
            "teams: application 'chat': 7 is not a team's name (letters, digits, _ . -)",
        ),
        ("default_team: ml\nteams: {chat: [a, b]}", "teams: application 'chat': ['a', 'b'] is not a team's name"),
        ("default_team: ml\nteams: {chat: 'n{{lp'}", "teams: application 'chat': 'n{{lp' is not a team's name"),
        ("default_team: ml\nteams: {chat: ''}", "teams: application 'chat': '' is not a team's name"),
        ("default_team: the team", "default_team: 'the team' is not a team's name"),
        ("platform_team: 7", "platform_team: expected a string, got 7"),
        ("traffic_above_usual: .nan", "traffic_above_usual: nan is not between 1 and 100000"),
        ("runbook_url: javascript:alert(1)", "runbook_url: javascript: is not a link"),
        ("runbook_url: JavaScript://x/%0aalert(1)", "runbook_url: JavaScript: is not a link"),
        ('runbook_url: "java\\tscript:alert(1)"', "runbook_url: holds a character"),
        ('runbook_url: "\\x01javascript:alert(1)"', "runbook_url: holds a character"),
        ("runbook_url: ' javascript:alert(1)'", "runbook_url: holds a character"),
        ("runbook_url: data:text/html,x", "runbook_url: data: is not a link"),
        ("runbook_url: vbscript:x", "runbook_url: vbscript: is not a link"),
        ("runbook_url: file:///etc/passwd", "runbook_url: file: is not a link"),
        ("runbook_url: //elsewhere.example/x", "runbook_url: begins with //"),
        ("runbook_url: https:docs", "runbook_url: https: is not a link"),
        ("grafana_url: javascript:alert(1)", "grafana_url: javascript: is not a link"),
        ("grafana_url: https://admin:pw@grafana.example.com", "grafana_url: holds a user or password"),
        ("dashboard_from: now-00m", "dashboard_from: expected the form now-1h, got 'now-00m'"),
        ("colour: red", "unknown setting 'colour'; known: "),
        ("- a list", "settings must be a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "settings.yml"
    path.write_text(text)
    with pytest.raises(ServescopeError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "docs/runbooks",
        "../docs/runbooks",
        "/runbooks/{alert}.html",
        "https://docs.example.com/runbooks/{alert}.html",
        "http://wiki:8080/a:b/{alert}",
        "https://[2001:db8::1]:3000/grafana?orgId=1",
        "",
    ],
)
def test_addresses_and_paths_are_taken_as_links(address):
    settings = Settings(runbook_url=address, grafana_url=address)
    assert (settings.runbook_url, settings.grafana_url) == (address, address)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ServescopeError, match="cannot read the settings"):
        load(tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("docs/runbooks", "docs/runbooks/RayServeNoReplicas.md"),
        ("https://wiki.example.com/x", "https://wiki.example.com/x/RayServeNoReplicas.md"),
        ("https://docs.example.com/runbooks/{alert}.html", "https://docs.example.com/runbooks/RayServeNoReplicas.html"),
        ("https://wiki.example.com/?page={alert}", "https://wiki.example.com/?page=RayServeNoReplicas"),
    ],
)
def test_where_an_alerts_runbook_is(address, page):
    assert Settings(runbook_url=address).runbook("RayServeNoReplicas") == page


def test_teams_are_read_and_listed_once(tmp_path):
    path = tmp_path / "settings.yml"
    path.write_text("teams: {chat: nlp, search: nlp, ocr: vision}\ndefault_team: vision\nplatform_team: ray-platform\n")
    settings = load(path)
    assert settings.teams == {"chat": "nlp", "search": "nlp", "ocr": "vision"}
    assert settings.all_teams == ("nlp", "vision", "ray-platform")
    assert Settings().all_teams == ()
    assert len({settings, load(path)}) == 1, "settings can be hashed"


def test_a_cluster_and_a_service_have_their_labels():
    plain = Settings()
    assert (plain.cluster_key, plain.service_key) == (("ray_io_cluster",), ("ray_io_cluster",))
    chosen = Settings(extra_cluster_labels=("namespace",), service_label="ray_service")
    assert chosen.cluster_key == ("ray_io_cluster", "namespace", "ray_service")
    assert chosen.service_key == ("ray_service",)


@pytest.mark.parametrize("jobs", ["", "ray", "(?i).*(ray|servescope).*", "team-a/ray-.*"])
def test_jobs_are_named_by_what_prometheus_takes(jobs):
    assert Settings(scrape_jobs=jobs).scrape_jobs == jobs
