"""The worlds: what users' stores hold, and which alerts must, may and must not fire in each."""

from __future__ import annotations

from dataclasses import replace

from servescope.promql.durations import milliseconds
from servescope.rules import quiet_worlds
from servescope.rules.promtool import labelled, lasting
from servescope.rules.series import LIVING_CLUSTER
from servescope.settings import Settings
from tests.worlds.language import SCRAPES_A_MINUTE, Cluster, Series, World, changed_at, read

SETTINGS = Settings()
MISSING = ("servescope-overview", "Missing replicas")
TARGET_AND_HEALTHY = ("servescope-overview", "Target and healthy replicas")
BY_NAMESPACE = Settings(extra_cluster_labels=("namespace",))
BY_SERVICE = Settings(service_label="ray_service")
FAILING = frozenset({"RayServeErrorRatioHigh", "RayServeErrorRatioElevated", "RayServeRouteFailing"})
SLOW = frozenset({"RayServeLatencyHigh"})
BURN = frozenset({"RayServeErrorBudgetBurn"})


def all_worlds() -> list[World]:
    """Every world, those of alerts-quiet.yml last."""
    return [
        *_one_cluster(),
        *_labels_that_change(),
        *_two_clusters(),
        *_clusters_that_come_and_go(),
        *_first_hour(),
        *quiet(),
    ]


def own_worlds() -> list[World]:
    """The worlds of this folder; promtool's tests under alerts/ ask the others."""
    return [world for world in all_worlds() if not world.name.startswith("quiet: ")]


def _one_cluster() -> list[World]:
    failing = Cluster(failing=0.2, fails_from=10)
    of_front = {"ray_io_cluster": "a", "job": "ray", "instance": "10.0.0.1:8080", "application": "shop"}
    of_front |= {"deployment": "Front", "replica": "r0", "route": "/", "WorkerId": "w0"}
    # The error counter is ahead of the calls by eight minutes' worth.
    early = Series("ray_serve_deployment_error_counter_total", of_front, (0.0,) * 120 + (5000.0,) * 41)
    return [
        World(
            name="one healthy cluster",
            right="Nothing fires, and every panel says what is there.",
            minutes=50,
            series=Cluster().series(50),
            figures={
                'sum(serve_slo:requests:events1m{sli="latency"})': 600,
                'sum(serve_slo:errors:events1m{sli="latency"})': 0,
            },
            shows={MISSING: (0,), TARGET_AND_HEALTHY: (2,)},
        ),
        World(
            name="a fifth of the requests fails",
            right="Error ratio, route and budget fire for the application.",
            minutes=50,
            series=failing.series(50),
            must=FAILING | BURN,
            figures={'sum(serve_slo:errors:events1m{slo="shop", sli="availability"})': 120},
        ),
        World(
            name="the store does not hold `up`",
            right=(
                "What was counted before goes on to be judged; only the first events of new series are unknown, and "
                "that is said."
            ),
            minutes=50,
            series=[
                one
                for one in replace(failing, fails_from=0, up=False).series(50)
                if not one.name.startswith("servescope_")
            ],
            must=FAILING | BURN | {"ServescopeSetupUpMissing"},
        ),
        World(
            name="errors are reported before their calls",
            right="No minute has more errors than calls, so that one minute spends no month's budget.",
            minutes=40,
            series=[*Cluster().series(40), early],
            may=frozenset({"RayServeReplicaErrorOutlier"}),
            figures={'sum(max_over_time(serve_slo:errors:events1m{slo="front"}[40m]))': 600},
        ),
        World(
            name="one replica of two",
            right="The missing replica fires after fifteen minutes.",
            minutes=30,
            series=Cluster(healthy=1).series(30),
            must=frozenset({"RayServeReplicasMissing"}),
            shows={MISSING: (1,), TARGET_AND_HEALTHY: (1,)},
        ),
        World(
            name="the only cluster, which served, ends",
            right="All its metrics are missing: somebody is paged.",
            minutes=45,
            series=Cluster(dies=30).series(45),
            must=frozenset({"RayClusterMetricsGone", "ServescopeNoRayMetrics"}),
        ),
    ]


def _long_ago(cluster: str, instance: str, *, first: int, last: int) -> list[Series]:
    """Failures of long ago, in counters that Prometheus sees from scrape `first` to `last`."""
    target = {"ray_io_cluster": cluster, "job": "ray", "instance": instance, "application": "shop"}
    return [
        Series(name, target | labels, (None,) * first + (count,) * (last - first))
        for name, labels, count in (
            ("ray_serve_health_check_failures_total", {"deployment": "Front", "replica": "r0"}, 3.0),
            ("ray_serve_num_http_requests_total", {"route": "/", "method": "GET", "status_code": "500"}, 120_000.0),
        )
    ]


def _labels_that_change() -> list[World]:
    """Counters of long ago go on under other labels: nothing happened."""
    long_ago = _long_ago("a", "10.0.0.1:8080", first=0, last=42 * SCRAPES_A_MINUTE + 1)
    old = [*Cluster(past=8000, slow=0.1).series(42), *long_ago]
    extra = [one if one.name == "up" else one.relabelled(otel_scope_name="x") for one in old]

    def dropped(one: Series) -> Series:
        return one.relabelled(otel_scope_name="")

    def added(one: Series) -> Series:
        return one.relabelled(pod="ray-head")

    def other_le(one: Series) -> Series:
        bound = one.labels.get("le", "+Inf")
        return one if bound == "+Inf" else one.relabelled(le=f"{bound}.0")

    # In each of the last ten minutes, the one of the change among them.
    slow = {
        f'{bound}_over_time(serve_slo:{what}:events1m{{sli="latency"}}[10m])': count
        for what, count in (("errors", 60), ("requests", 600))
        for bound in ("min", "max")
    }
    as_before = "The counters are old: nothing new fires, and the slow requests are as many as before."
    of_bounds = '`le="5000"` becomes `le="5000.0"`: 60 of 600 requests in a minute are slow, before and after.'
    return [
        World(name=name, right=right, minutes=42, series=changed_at(37.5, before, change), must=SLOW, figures=slow)
        for name, right, before, change in (
            ("a label is dropped", as_before, extra, dropped),
            ("a label is added by the scrape", as_before, old, added),
            ("Prometheus 2 becomes 3", of_bounds, old, other_le),
        )
    ]


def _two_clusters() -> list[World]:
    a = Cluster(name="a", address="10.244.0.14")
    met_later = replace(a, name="b", born=30, runs_from=30, past=9000)
    met, last = 30 * SCRAPES_A_MINUTE, 33 * SCRAPES_A_MINUTE + 1
    long_ago = _long_ago("b", "10.244.0.14:8080", first=met, last=last)
    sick, well = Cluster(name="a", healthy=0, requests=0), Cluster(name="b", address="10.0.0.2", healthy=3)
    in_a, in_b = (
        replace(cluster, name="raycluster-kuberay", labels={"namespace": namespace})
        for cluster, namespace in ((sick, "team-a"), (well, "team-b"))
    )
    return [
        World(
            name="a second cluster has the same pod addresses",
            right="Nothing fires when Prometheus meets it, with counters of its past.",
            minutes=33,
            series=[*a.series(33), *met_later.series(33), *long_ago],
        ),
        World(
            name="one of two clusters has no replica",
            right="The other one, which still stops a third, does not make up for it: two are missing.",
            minutes=30,
            series=[*sick.series(30), *well.series(30)],
            must=frozenset({"RayServeReplicasMissing"}),
            shows={MISSING: (2,), TARGET_AND_HEALTHY: (3,)},
        ),
        World(
            name="two namespaces with a cluster of the same name",
            right="Only the one without replicas fires.",
            minutes=30,
            series=[*in_a.series(30), *in_b.series(30)],
            must=frozenset({"RayServeReplicasMissing"}),
            settings=BY_NAMESPACE,
            shows={MISSING: (2,)},
        ),
    ]


def _clusters_that_come_and_go() -> list[World]:
    never = float("inf")
    job = Cluster(name="rayjob-etl-x7k2p", address="10.0.0.9", serves=False, dies=20)
    of_service = {"ray_service": "shop"}
    old = Cluster(name="shop-jgmlr", labels=of_service, dies=42)
    new = Cluster(name="shop-jgwhm", labels=of_service, address="10.0.0.2", born=10, runs_from=40, wanted=2)
    upgrade = [*old.series(62), *new.series(62)]
    unlabelled = [one.relabelled(ray_service="") for one in upgrade]
    pending = replace(new, runs_from=never, born=5)
    of_new = {"ray_io_cluster": "shop-jgwhm", "job": "ray", "instance": "10.0.0.2:8080"} | of_service
    waiting = {"Source": "gcs", "State": "PENDING_CREATION", "Name": "ServeReplica:shop:Front"}
    two_of_them = (2.0,) * 121
    unplaced = [
        Series("ray_actors", of_new | waiting, two_of_them),
        Series("ray_scheduler_unscheduleable_tasks", of_new | {"Reason": "WaitingForResources"}, two_of_them),
    ]
    return [
        World(
            name="the cluster of a RayJob ends",
            right="It never served: nobody is paged.",
            minutes=35,
            series=[*Cluster(name="serving").series(35), *job.series(35)],
        ),
        World(
            name="a RayService is upgraded, with a service label",
            right="The new cluster starts for half an hour beside the old one, which is then deleted: nobody is paged.",
            minutes=62,
            series=upgrade,
            settings=BY_SERVICE,
            figures={
                'count(serve_slo:requests:events1m{sli="latency"})': 1,
                'count(serve_slo:error_budget_left:ratio{sli="latency"})': 1,
            },
        ),
        World(
            name="a RayService is upgraded, without a service label",
            right="Nothing says that they belong together: the one that is gone and the one that waits both fire.",
            minutes=62,
            series=unlabelled,
            must=frozenset({"RayClusterMetricsGone", "RayServeReplicasMissing"}),
        ),
        World(
            name="the only cluster with its service label ends",
            right="Another service's cluster does not relieve it.",
            minutes=45,
            series=[
                *replace(old, dies=30).series(45),
                *Cluster(name="other", address="10.0.0.3", labels={"ray_service": "other"}, application="x").series(45),
            ],
            must=frozenset({"RayClusterMetricsGone"}),
            settings=BY_SERVICE,
        ),
        World(
            name="a cluster waits for nodes beside the one that serves",
            right="It has no users yet: nothing fires.",
            minutes=30,
            series=[*replace(old, dies=never).series(30), *pending.series(30), *unplaced],
            settings=BY_SERVICE,
        ),
        World(
            name="a cluster waits for nodes and its service has no other",
            right="The service does not run: its missing replicas fire.",
            minutes=30,
            series=[*replace(pending, born=0).series(30), *unplaced],
            must=frozenset({"RayServeReplicasMissing", "RayServeReplicasNotPlaced"}),
            may=frozenset({"RayServeRolloutStuck"}),
            settings=BY_SERVICE,
        ),
        World(
            name="a service fails in both of its clusters",
            right="The users' view is one: error ratio, route and budget of the service.",
            minutes=50,
            series=[
                *replace(old, dies=never, failing=0.2, fails_from=10).series(50),
                *replace(new, born=0, runs_from=0, failing=0.2, fails_from=10).series(50),
            ],
            must=FAILING | BURN,
            settings=BY_SERVICE,
            figures={'serve_slo:errors:events1m{slo="shop", sli="availability", ray_service="shop"}': 240},
        ),
    ]


def _first_hour() -> list[World]:
    steady = Cluster()
    return [
        World(
            name="Prometheus is young and traffic is steady",
            right="Nothing is compared with an hour that nobody watched.",
            minutes=25,
            series=Cluster(past=5000).series(25),
        ),
        World(
            name="an application's first traffic",
            right="What has no usual level cannot be far above it.",
            minutes=100,
            series=Cluster(born=75, runs_from=76, address="10.0.0.2", name="b").series(100) + steady.series(100),
        ),
    ]


def quiet() -> list[World]:
    """The worlds of alerts-quiet.yml, in which no alert may fire at one moment."""
    found = []
    for name, world in quiet_worlds.worlds().items():
        minutes = milliseconds(world.at) / 60_000
        length = int(minutes * SCRAPES_A_MINUTE) + 1
        series = [
            read(labelled(text, SETTINGS), lasting(values, length), minutes=minutes)
            for text, values in {**LIVING_CLUSTER, **world.series}.items()
        ]
        found.append(World(name=f"quiet: {name}", right="Nothing fires.", minutes=minutes, series=series))
    return found
