"""The page of a report: hostile text stays text, and nothing asks the network."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from servescope.report import page as report_page
from servescope.report.page import Live
from tests.support.canned_report import HOSTILE, WINDOW, alerting_report, hostile_report


def test_html_in_labels_logs_and_traces_stays_text():
    page = report_page.render(hostile_report(), HOSTILE)
    without_library = page.replace(report_page.plotly_js(), "")
    assert len(page) - len(without_library) > 1_000_000
    assert "<img" not in without_library
    assert "<script>alert" not in without_library
    assert without_library.count("&lt;script&gt;alert(1)") > 10
    # The data of the plots are in script elements, where only `<` could end them.
    (data,) = re.findall(r'id="plots">(.*?)</script>', without_library, re.DOTALL)
    assert "\\u003cscript\\u003e" in data
    assert "<" not in data


def test_a_snapshot_asks_no_network():
    page = report_page.render(hostile_report(), "t").replace(report_page.plotly_js(), "")
    assert re.findall(r'(?:src|href)="(?!#|data:,")[^"]*"', page) == []


def alerts_of(page: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The groups of alerts: title, and of each alert name, since when, and what it says."""
    text = page.replace(report_page.plotly_js(), "")
    groups = re.findall(r'class="group.*?<h3>(.*?)</h3>(.*?)(?=class="group|</section>)', text, re.DOTALL)
    one = r'class="name[^"]*">(.*?)</span>.*?class="since"[^>]*>(.*?)</span>.*?class="says">(.*?)</span>\n'
    return [
        (title, [(name, since, re.sub("<.*?>", "", says)) for name, since, says in re.findall(one, body, re.DOTALL)])
        for title, body in groups
    ]


def test_alerts_that_fire_come_first_and_those_that_wait_apart_with_their_state():
    assert alerts_of(report_page.render(alerting_report(), "t")) == [
        ("Firing (1)", [("Fires", "firing since 00:17:10 (30 s)", "It is broken. application=shop")]),
        ("Fired, resolved (1)", [("Over", "fired 00:16:55 to 00:17:10", "It was broken.")]),
        (
            "Pending, not firing (2)",
            [
                ("Soon", "pending since 00:17:25 (15 s)", "It may break."),
                ("Long", "pending since before 00:16:40 (1 min)", "It may break."),
            ],
        ),
        ("Were pending, did not fire (1)", [("Passed", "was pending 00:16:40 to 00:16:55", "It may break.")]),
    ]


def test_since_when_has_its_day_where_the_page_shows_more_than_one():
    report = alerting_report()
    report.window = replace(report.window, start=report.window.end - 90_000)
    (_, (fires,)), *_ = alerts_of(report_page.render(report, "t"))
    assert fires[1] == "firing since 1970-01-01 00:17 (30 s)"


def test_a_name_has_the_color_of_its_severity_only_while_it_fires():
    page = report_page.render(alerting_report(), "t")
    assert re.findall(r'class="(name[^"]*)">(\w+)', page) == [
        ("name critical", "Fires"),
        ("name", "Over"),
        ("name", "Soon"),
        ("name", "Long"),
        ("name", "Passed"),
    ]


def test_without_one_that_fires_the_page_says_so():
    report = alerting_report()
    report.alerts = [alert for alert in report.alerts if alert.firing_from is None]
    live = Live(start="now-5m", end="now", boards=[], refresh_s=0)
    assert "<p>No alert is firing.</p>" in report_page.render(report, "t", live)
    assert "<p>No alert was firing at the end.</p>" in report_page.render(report, "t")
    assert "firing at the end" not in report_page.render(alerting_report(), "t")


def test_the_page_says_that_it_shows_all_there_is():
    def facts(live: Live) -> str:
        (text,) = re.findall(r'id="facts">(.*?)</p>', report_page.render(alerting_report(), "t", live), re.DOTALL)
        return html.unescape(re.sub("<.*?>", "", text))

    live = Live(start="now-5m", end="now", boards=[], refresh_s=0, asked=False, all_there_is="5 minutes")
    assert "the last 5 minutes: Prometheus has no older samples" in facts(live)
    assert "older" not in facts(Live(start="now-5m", end="now", boards=[], refresh_s=0))


def test_an_alert_is_firing_at_the_end_of_the_window_only():
    end = round(WINDOW.end * 1000)
    states = [alert.state(end) for alert in alerting_report().alerts]
    assert states == ["firing", "resolved", "pending", "pending", "passed"]


def test_what_is_pending_no_more_is_folded_where_the_page_shows_now():
    report = alerting_report()
    live = Live(start="now-5m", end="now", boards=[], refresh_s=0)
    assert '<details class="group passed-alerts">' in report_page.render(report, "t", live)
    assert '<details class="group passed-alerts" open>' in report_page.render(report, "t")


@pytest.mark.parametrize(
    ("panel", "in_the_preview", "in_a_snapshot"),
    [
        ("viewPanel=7&", "/d/b?var-application=shop&amp;from=now-5m&amp;to=now#b/7", "#b/7"),
        ("", "/d/b?var-application=shop&amp;from=now-5m&amp;to=now", "#b"),
    ],
)
def test_a_link_that_names_a_panel_leads_to_it(panel, in_the_preview, in_a_snapshot):
    report = alerting_report()
    (board,) = report.boards
    figure = next(view for view in board.sections[0].panels if view.kind == "stat")
    url = f"/d/b?{panel}${{cluster:queryparam}}&var-application=shop&${{__url_time_range}}"
    figure.items[0]["links"] = [{"title": "Explain", "url": url}]
    live = Live(start="now-5m", end="now", boards=[], refresh_s=0, query="from=now-5m&to=now")
    for page, target in ((live, in_the_preview), (None, in_a_snapshot)):
        html_of = report_page.render(report, "t", page)
        assert re.findall(r'<b><a href="(.*?)">', html_of) == [target]
