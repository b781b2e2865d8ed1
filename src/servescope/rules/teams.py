"""The label `team`: whom an alert is for, by application, from the settings.

Prometheus, vmalert and Grafana all expand templates in a rule's labels. The template names neither `$labels` nor any
other variable: Grafana's file provisioning would take `$labels` in a label for an environment variable. It never
expands to nothing: Prometheus would leave the label out of the alert and show the template itself in `ALERTS`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from servescope.settings import Settings

LABEL = "team"


def team(settings: Settings, labels: Mapping[str, str]) -> str:
    """The team of an alert with these labels; "" where no team is set."""
    application = labels.get("application")
    if not application:
        return settings.platform_team or settings.default_team
    return settings.teams.get(application, settings.default_team)


def label(settings: Settings, names: Collection[str]) -> dict[str, str]:
    """The rule's label for an alert that keeps labels of these names: a value or a template; none without teams."""
    if not settings.default_team:
        return {}
    platform = team(settings, {})
    if "application" not in names or set(settings.all_teams) == {platform}:
        return {LABEL: platform}
    by_team: dict[str, list[str]] = {}
    for application, its_team in settings.teams.items():
        by_team.setdefault(its_team, []).append(json.dumps(application, ensure_ascii=False))  # as Go reads a string
    text = settings.default_team
    if by_team:
        branches = [f"if eq . {' '.join(quoted)} }}}}{its_team}" for its_team, quoted in by_team.items()]
        text = f"{{{{ {'{{ else '.join(branches)}{{{{ else }}}}{text}{{{{ end }}}}"
    return {LABEL: f'{{{{ with index .Labels "application" }}}}{text}{{{{ else }}}}{platform}{{{{ end }}}}'}
