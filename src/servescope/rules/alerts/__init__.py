"""The alerts: one module for each subject, in the order in which the person on call reads them."""

from __future__ import annotations

from servescope.rules.alert import Alert, Group
from servescope.rules.alerts import advice, control, cost, logs, nodes, replicas, rollout, saturation, setup, users
from servescope.rules.expressions import Expressions
from servescope.settings import Settings

_MODULES = (users, saturation, replicas, control, nodes, cost, rollout, logs, advice, setup)


def groups(settings: Settings, *, recorded: bool = True) -> list[Group]:
    """Every group of alerts, over recorded figures or over Ray's own series alone."""
    return [module.build(Expressions(settings, recorded=recorded)) for module in _MODULES]


def all_alerts(settings: Settings, *, recorded: bool = True) -> list[Alert]:
    """Every alert, in the order of the rule file."""
    return [alert for group in groups(settings, recorded=recorded) for alert in group.alerts]
