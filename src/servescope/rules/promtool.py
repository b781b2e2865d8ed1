"""promtool's unit tests of the alerts: for each a case that fires, one just below, and worlds in which none may fire.

The series come from each alert's `Case` and from `quiet_worlds`. Every test runs against the whole rule file and
asserts the complete list of firing alerts, so that false positives of other rules are found. Rules are evaluated less
often than in production, to save time.
"""

from __future__ import annotations

import re
from typing import Any

from servescope.promql.durations import milliseconds
from servescope.rules import prometheus, quiet_worlds, teams
from servescope.rules.alert import Alert, Group, InputSeries
from servescope.rules.series import LIVING_CLUSTER
from servescope.settings import Settings

SCRAPE_S = 15
WATCHDOG = "ServescopeWatchdog"
# The cases hold only what their alert needs, not a whole set-up: the alerts on that are asked about in their own cases
# and in the quiet worlds.
_FIRING = 'ALERTS{alertstate="firing", alertname!~"IGNORED"}'
_SETUP_ALERTS = "ServescopeSetup.+"


def firing(*, setups: bool) -> str:
    """What fires besides the watchdog, with or without the alerts on the set-up."""
    return _FIRING.replace("IGNORED", WATCHDOG if setups else f"{WATCHDOG}|{_SETUP_ALERTS}")


def document(group: Group, settings: Settings) -> dict[str, Any]:
    """The test file of one group of alerts."""
    tests = []
    setups = any(alert.name.startswith("ServescopeSetup") for alert in group.alerts)
    for alert in group.alerts:
        case = alert.case
        own = _sample(alert, settings) if alert.name != WATCHDOG else ""
        tests.append(
            _test(
                f"{alert.name} fires",
                series={**LIVING_CLUSTER, **case.fires},
                at=case.at,
                expected=[own, *case.also],
                settings=settings,
                setups=setups,
            )
        )
        if case.quiet:
            series = {**LIVING_CLUSTER, **case.fires, **case.quiet}
            tests.append(
                _test(
                    f"{alert.name} does not fire just below its threshold",
                    series=series,
                    at=case.at,
                    expected=[*case.quiet_also],
                    settings=settings,
                    setups=setups,
                )
            )
    # Alerts that wait for hours need no rule evaluated every two minutes.
    longest = max(milliseconds(alert.case.at) for alert in group.alerts)
    return _file(tests, "10m" if longest > milliseconds("3h") else "2m", settings)


def quiet_document(settings: Settings) -> dict[str, Any]:
    """The test file of the worlds in which no alert may fire."""
    tests = [
        _test(name, series={**LIVING_CLUSTER, **world.series}, at=world.at, expected=[], settings=settings, setups=True)
        for name, world in quiet_worlds.worlds().items()
    ]
    return _file(tests, "1m", settings)


def _file(tests: list[dict[str, Any]], interval: str, settings: Settings) -> dict[str, Any]:
    return {
        "rule_files": ["../servescope-alerts.yml"],
        "evaluation_interval": interval,
        "group_eval_order": evaluation_order(settings),
        "tests": tests,
    }


def evaluation_order(settings: Settings) -> list[str]:
    """The names of the alerts' groups in their order: promtool has none of its own, and groups read each other."""
    return [group["name"] for group in prometheus.document(settings)["groups"]]


def _sample(alert: Alert, settings: Settings) -> str:
    labels = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity, **alert.case.labels}
    labels |= dict.fromkeys(alert.key(settings), alert.case.cluster)
    if alerts_team := teams.team(settings, labels):
        labels[teams.LABEL] = alerts_team
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def _test(
    name: str, *, series: InputSeries, at: str, expected: list[str], settings: Settings, setups: bool
) -> dict[str, Any]:
    """One test. `expected` holds whole samples, or names of alerts of which at least one instance must fire."""
    length = milliseconds(at) // 1000 // SCRAPE_S + 4
    all_ = firing(setups=setups)
    named = sorted({entry.split("{")[0] for entry in expected if entry and not entry.startswith("ALERTS{")})
    expressions = [
        {
            # promtool cannot match a set of alerts, so those that fire as well are asserted by name alone.
            "expr": all_.replace("}", f', alertname!~"{"|".join(named)}"}}') if named else all_,
            "eval_time": at,
            "exp_samples": [{"labels": entry, "value": 1} for entry in expected if entry.startswith("ALERTS{")],
        },
        *(
            {
                "expr": f'group by (alertname) (ALERTS{{alertstate="firing", alertname="{other}"}})',
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{other}"}}', "value": 1}],
            }
            for other in named
        ),
    ]
    return {
        "name": name,
        "interval": f"{SCRAPE_S}s",
        "input_series": [
            {"series": labelled(text, settings), "values": lasting(values, length)} for text, values in series.items()
        ],
        "promql_expr_test": expressions,
    }


def labelled(series: str, settings: Settings) -> str:
    """The series with the labels of its cluster and target, where they are missing."""
    name, _, inside = series.rstrip("}").partition("{")
    labels = [inside] if inside else []
    for label, value in (*((label, "a") for label in settings.cluster_key), ("instance", "n1"), ("job", "ray")):
        if not re.search(rf'(^|,){label}="', inside):
            labels.append(f'{label}="{value}"')
    return f"{name}{{{','.join(labels)}}}"


def lasting(values: str, length: int) -> str:
    """Replace a closing `x` by as many steps as the test lasts; a word before it counts towards them."""
    if not values.endswith("x"):
        return values
    used = 0
    for word in values.split()[:-1]:
        repeat = re.search(r"x(\d+)$", word)
        used += (int(repeat.group(1)) + (0 if word.startswith("_") else 1)) if repeat else 1
    return f"{values}{max(1, length - used)}"
