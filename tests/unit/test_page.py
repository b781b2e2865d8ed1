"""The page of a report: hostile text stays text, and nothing asks the network."""

from __future__ import annotations

import re

from servescope.report import page as report_page
from tests.support.canned_report import HOSTILE, hostile_report


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
