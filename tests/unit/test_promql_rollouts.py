"""Changes of a deployment, and figures before and after them, evaluated by promtool over invented series."""

from __future__ import annotations

from servescope.promql import APPLICATION, DEPLOYMENT, Scope, rollouts
from servescope.promql.signals import Reader
from servescope.settings import Settings
from tests.support import promtool
from tests.support.deployment_series import evaluate, series

pytestmark = promtool.requires_promtool

READER = Reader(Settings(), Scope("ray_io_cluster"), window="1m")


INFO, AGE = "servescope_deployment_config_info", 'servescope_exporter_data_age_seconds{instance="e"}'


def test_a_change_is_seen_once_and_a_start_of_the_exporter_is_none(tmp_path):
    """The exporter starts at 1 min, a new fingerprint comes at 3 min, the exporter is away from 5 to 6 min."""
    given = {
        **series(INFO, "_x4 1x7 _x99", instance="e", fingerprint="old"),
        **series(INFO, "_x12 1x7 _x4 1x20", instance="e", fingerprint="new"),
        AGE: "_x4 5x15 _x4 5x20",
    }
    change = rollouts.changed(READER.scope, "15s", DEPLOYMENT)
    expected: dict[tuple[str, str], float | None] = {
        (change, f"{15 * step + 5}s"): 1 if step == 12 else None for step in range(40)
    }
    assert sum(value == 1 for value in expected.values()) == 1
    evaluate(tmp_path, given, expected)
    assert "by (application)" in rollouts.changed(READER.scope, "15s", APPLICATION)


def test_before_and_after_a_change(tmp_path):
    """The change comes at 10 min, the figure rises at 11.5 min, and the value after is taken 5 min after it."""
    figure = "max by (application, deployment) (servescope_deployment_target_replicas)"
    given = {
        **series(INFO, "1x39", instance="e", fingerprint="old"),
        **series(INFO, "_x40 1x60", instance="e", fingerprint="new"),
        **series("servescope_deployment_target_replicas", "3x45 8x60", instance="e"),
        AGE: "5x100",
    }
    evaluate(
        tmp_path,
        given,
        {
            (rollouts.last_change(READER.scope), "19m"): 600,
            (rollouts.before_last_change(READER.scope, figure), "19m"): 3,
            (rollouts.after_last_change(READER.scope, figure, "5m"), "14m"): None,
            (rollouts.after_last_change(READER.scope, figure, "5m"), "19m"): 8,
            (rollouts.last_change(READER.scope), "9m"): None,
        },
    )
