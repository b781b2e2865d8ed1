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
        ("cluster_label: 9lives", "cluster_label: '9lives' is no Prometheus label name"),
        ("cluster_label: __name__", "is no Prometheus label name"),
        ("cluster_label: application", "has a meaning of its own"),
        ("cluster_label: 7", "cluster_label: 7 is not a text"),
        ("scrape_interval_s: 0", "scrape_interval_s: 0 is not between 1 and 60 seconds"),
        ("scrape_interval_s: true", "scrape_interval_s: True is not a whole number"),
        ("backpressure_codes: [200]", "'200' is no HTTP status code between 400 and 599"),
        ("backpressure_codes: []", "backpressure_codes: empty"),
        ("price_per_gpu_hour: -1", "price_per_gpu_hour: -1.0 is no price"),
        ("price_per_cpu_hour: .nan", "price_per_cpu_hour: nan is no price"),
        ("price_per_gpu_hour: true", "price_per_gpu_hour: True is not a number"),
        ("dashboard_from: yesterday", "dashboard_from: 'yesterday' is not of the form now-1h"),
        ("dashboard_from: now-0h", "dashboard_from: 'now-0h' is not of the form now-1h"),
        ("dashboard_from: now-00m", "dashboard_from: 'now-00m' is not of the form now-1h"),
        ("replicas_above_usual: .inf", "replicas_above_usual: inf is not a finite number"),
        ("traffic_above_usual: .nan", "traffic_above_usual: nan is not a finite number"),
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
        ("dashboard_refresh: often", "dashboard_refresh: 'often' is not of the form 30s"),
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
