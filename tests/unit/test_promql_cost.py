"""What replicas cost, evaluated by promtool over invented series."""

from __future__ import annotations

from servescope.promql import Scope, capacity, cost
from servescope.promql.signals import Reader
from servescope.settings import Settings
from tests.support import promtool
from tests.support.deployment_series import config, evaluate, series, steady

pytestmark = promtool.requires_promtool

READER = Reader(Settings(), Scope("ray_io_cluster"), window="1m")


def test_cost_is_resources_times_price(tmp_path):
    given = {
        **config(replica_cpus=2),
        **config(replica_gpus=0.5),
        **series("servescope_deployment_replicas", steady(3), state="RUNNING", instance="e"),
        **series("servescope_deployment_replicas", steady(1), state="STOPPING", instance="e"),
    }
    priced = Settings(price_per_gpu_hour=4.0, price_per_cpu_hour=0.1)
    replicas = capacity.reserved_replicas(READER)
    evaluate(
        tmp_path,
        given,
        {
            (capacity.reserved(READER, "replica_gpus", replicas), "1m"): 2,
            (cost.hourly_cost(READER, priced, replicas), "1m"): 4 * (0.5 * 4 + 2 * 0.1),
            (f"sum_over_time(({cost.hourly_cost(READER, priced, replicas)})[5m:1m]) / 60", "305s"): 8.8 * 5 / 60,
        },
    )
