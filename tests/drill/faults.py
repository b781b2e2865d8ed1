"""The faults of the drill: what breaks, how it recovers, and which alerts must, may and must not fire.

A fault claims the alerts in `must` and `may`: those that name an application when it is one of its own (or any, when
`everywhere`), those that name none for the whole cluster. An alert that fires and that no fault of its world claims is
a false positive. Times are those of the drill, seconds; divide the real ones by `pace.SCALE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

from tests.drill.design import App, Design
from tests.drill.pace import scaled
from tests.drill.world import World, kill_all

Heal = Callable[[], object]


@dataclass(frozen=True)
class Expect:
    """An alert that must fire within so many seconds, with at least these labels besides the application."""

    alert: str
    within_s: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that breaks. `breaks` does it and returns what heals it.

    The phases of a world come one after another, the faults of a phase side by side, begun one after another as they
    are listed: few, for two cores carry them.
    """

    name: str
    how: str
    breaks: Callable[[World], Heal]
    must: tuple[Expect, ...] = ()
    may: tuple[str, ...] = ()
    apps: tuple[App, ...] = ()
    world: str = "plain"
    phase: int = 1
    until: int = 0  # the phase at whose end it heals, where not its own
    watch_s: float = 0  # how long to look on at least
    # Its applications are there from this phase on, and are deleted when the phase is over in which the fault heals, so
    # that two cores carry them.
    arrives: int = 0
    stays: bool = False
    # How much must have been recorded of them before: first events count only where the start of their window was
    # watched.
    before_s: float = 80
    resolves_s: float = 0  # within how long after healing its alerts must have ended by themselves; 0 does not wait
    everywhere: bool = False
    anywhere: tuple[str, ...] = ()  # those of its alerts that may name any application


DESIGNS = {
    "plain": Design(name="plain"),
    # A head that keeps its state in Redis, and a configuration that deserves advice.
    "redis": Design(
        name="redis",
        env={"RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "10,100,500,1000,10000"},
        head_options=("--object-store-memory=80000000",),
        memory_left=6 << 30,
        fault_tolerant=True,
    ),
}

# What follows when an application answers with 5xx, whatever the cause. Early in a world its deploy is fresh.
FAILING = (
    "RayServeErrorRatioHigh",
    "RayServeErrorRatioElevated",
    "RayServeRouteFailing",
    "RayServeUnavailable",
    "RayServeErrorsAfterDeploy",
)
# A deployment without a replica refuses with 503.
REFUSING = (
    *FAILING,
    "RayServeBackPressure",
    "RayServeQueueNearLimit",
    "RayServeQueueGrowing",
    "RayServeRouterWaitHigh",
)
SLOW = ("RayServeLatencyHigh", "RayServeSlowerAfterDeploy")
WITHOUT_REPLICAS = (
    *REFUSING,
    *SLOW,
    "RayServeNoReplicas",
    "RayServeReplicasMissing",
    "RayServeReplicaStartFailing",
    "RayServeApplicationUnhealthy",
    "RayServeDeploymentUnhealthy",
    "RayServeHealthCheckFailing",
)
WITHOUT_CONTROLLER = ("RayServeControllerStalled", "RayServeProxyMissing", "RayServeProxyUnhealthy")


def switched(mode: str, name: str) -> Callable[[World], Heal]:
    """Turn on the application's own fault."""

    def breaks(world: World) -> Heal:
        world.switch(name, mode)
        return lambda: world.switch(name)

    return breaks


def flooded(name: str, rate: float) -> Callable[[World], Heal]:
    """Send more."""

    def breaks(world: World) -> Heal:
        usual = world.load.rates[name]
        world.load.rates[name] = rate
        return lambda: world.load.rates.update({name: usual})

    return breaks


def overwhelmed(name: str, rate: float) -> Callable[[World], Heal]:
    """Send more, and make each take long: after short ones the router is late to fill a free place."""

    def breaks(world: World) -> Heal:
        heals = [switched("slow", name)(world), flooded(name, rate)(world)]
        return lambda: [heal() for heal in heals]

    return breaks


def released(name: str, start: str, **changes: object) -> Callable[[World], Heal]:
    """Deploy another version."""

    def breaks(world: World) -> Heal:
        world.deploy(name, start=start, **changes)
        world.load.rates[name] = world.applications[name].rate
        return lambda: None  # the application leaves

    return breaks


def kill_replica(world: World) -> Heal:
    pid = world.replica_pids("kill-replica")[0]
    kill_all([psutil.Process(pid)])
    return lambda: None  # Serve replaces it


def exit_at_start(world: World) -> Heal:
    world.switch("exit-at-start", "exit-at-start")
    kill_all([psutil.Process(pid) for pid in world.replica_pids("exit-at-start")])
    return lambda: world.switch("exit-at-start")


def swing(world: World) -> Heal:
    period_s = 16
    world.load.rates["flapping-load"] = lambda t: 6.0 if t % period_s < period_s / 2 else 0.0
    return lambda: world.load.rates.update({"flapping-load": 1.0})


def lose_route(world: World) -> Heal:
    world.delete("lost-route")
    return lambda: world.deploy("lost-route")


def stop_exporter(world: World) -> Heal:
    world.kill("exporter")
    return lambda: world.restart("exporter")


def kill_proxy(world: World) -> Heal:
    release = world.take_worker_port()
    kill_all([p for p in world.worker_processes() if " ".join(p.cmdline()).startswith("ray::ProxyActor")])
    return release


def fill_disk(world: World) -> Heal:
    world.fill_worker_disk(0.97)
    return lambda: world.fill_worker_disk(0)


def kill_node(world: World) -> Heal:
    def heal() -> None:
        world.restart("worker")
        world.await_second_node(60)  # else the next fault finds a cluster of one node

    world.kill_worker()
    return heal


def kill_controller(world: World) -> Heal:
    return world.repeat(lambda: kill_all(world.processes("ray::ServeController")), pause_s=0.5)


def kill_head(world: World) -> Heal:
    world.kill("ray")
    return lambda: None


def start_empty_head(world: World) -> Heal:
    world.restart("ray")
    world.present.clear()
    world.apply()
    return lambda: None


def kill_head_for_a_while(world: World) -> Heal:
    world.kill("ray")
    return lambda: world.restart("ray")


def app(name: str, **settings: object) -> tuple[App, ...]:
    return (App(name=name, **settings),)  # type: ignore[arg-type]


AUTOSCALING = {
    "metrics_interval_s": round(scaled(10), 2),
    "look_back_period_s": scaled(30),
    "upscale_delay_s": scaled(30),
    "downscale_delay_s": scaled(600),
}

FAULTS = (
    Fault(
        name="nothing",
        how="nothing breaks, under steady load, for five minutes",
        breaks=lambda world: lambda: None,
        must=(Expect("ServescopeWatchdog", 30),),
        apps=app("nothing"),
        phase=0,
        watch_s=300,
        before_s=0,
        stays=True,
    ),
    Fault(
        name="hours-at-max",
        how="load that needs max_replicas for more than two hours",
        breaks=flooded("hours-at-max", 6),
        must=(Expect("RayServeAtMaxReplicas", 1100),),
        may=("RayServeCappedByMaxReplicas",),
        apps=app(
            "hours-at-max",
            rate=0.2,
            work_s=0.5,
            max_ongoing=10,
            autoscaling={**AUTOSCALING, "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1},
        ),
        phase=1,
        until=4,
    ),
    Fault(
        name="lost-route",
        how="deploy a configuration that no longer lists an application",
        breaks=lose_route,
        must=(Expect("RayServeRoutesGone", 90),),
        apps=app("lost-route"),
    ),
    Fault(
        name="slow-model",
        how="each request takes six seconds; graceful_shutdown_timeout_s is two seconds",
        breaks=switched("slow", "slow-model"),
        must=(Expect("RayServeLatencyHigh", 120), Expect("RayServeSlowerThanGracefulShutdown", 250)),
        may=("RayServeSlowerAfterDeploy",),
        apps=app("slow-model", rate=3, graceful_shutdown_s=2),
        before_s=240,
    ),
    Fault(
        name="bad-replica",
        how="one of three replicas fails every second request and takes half a second longer",
        breaks=switched("one-bad", "bad-replica"),
        must=(Expect("RayServeReplicaErrorOutlier", 150), Expect("RayServeReplicaLatencyOutlier", 240)),
        may=(*FAILING, "RayServeSlowerAfterDeploy"),
        apps=app("bad-replica", replicas=3, rate=8),
    ),
    Fault(
        name="hung-requests",
        how="requests hang and never finish",
        breaks=switched("hang", "hung-requests"),
        must=(Expect("RayServeRequestsHung", 150),),
        apps=app("hung-requests", rate=0.5, max_ongoing=1000),
        stays=True,
    ),
    Fault(
        name="raising-handler",
        how="the handler raises for one request in four",
        breaks=switched("raise", "raising-handler"),
        must=(
            Expect("RayServeErrorRatioHigh", 60),
            Expect("RayServeErrorRatioElevated", 120),
            Expect("RayServeRouteFailing", 75, {"route": "/raising-handler"}),
        ),
        may=("RayServeErrorsAfterDeploy",),
        apps=app("raising-handler", rate=4),
        before_s=240,
    ),
    Fault(
        name="kill-replica",
        how="kill -9 one of two replicas, once; Serve replaces it, and no alert may fire",
        breaks=kill_replica,
        apps=app("kill-replica", replicas=2, rate=3),
        watch_s=60,
    ),
    Fault(
        name="slow-start",
        how="deploy a version whose constructor takes more than a minute",
        breaks=released("slow-start", "slow"),
        must=(Expect("RayServeReplicaSlowStart", 150),),
        may=("RayServeReplicasMissing",),
        apps=app("slow-start", rate=0, at_once=False),
        phase=2,
        before_s=240,
    ),
    Fault(
        name="crash-loop",
        how="each request crashes the replica that handles it (os._exit)",
        breaks=switched("exit", "crash-loop"),
        must=(Expect("RayServeReplicaCrashLooping", 150), Expect("RayServeHealthCheckFailing", 150)),
        may=WITHOUT_REPLICAS,
        apps=app("crash-loop", rate=0.5),
        phase=2,
        before_s=120,
        arrives=2,
    ),
    Fault(
        name="blocked-loop",
        how="the handler blocks the event loop for two seconds",
        breaks=switched("block", "blocked-loop"),
        must=(Expect("RayServeEventLoopLag", 120, {"component": "replica", "loop_type": "user_code"}),),
        may=(*SLOW, "RayServeRouterWaitHigh", "RayServeQueueGrowing"),
        apps=app("blocked-loop", rate=0.4),
        phase=2,
        arrives=2,
    ),
    Fault(
        name="burst",
        how="12 requests per second to a deployment that handles four, with max_queued_requests 10",
        breaks=flooded("burst", 12),
        must=(
            Expect("RayServeUnavailable", 60),
            Expect("RayServeBackPressure", 60),
            Expect("RayServeQueueNearLimit", 60),
        ),
        may=(*SLOW, "RayServeRouterWaitHigh", "RayServeReplicasSaturated", "RayServeErrorsAfterDeploy"),
        apps=app("burst", work_s=0.5, max_ongoing=2, max_queued=10),
        phase=2,
        arrives=2,
    ),
    Fault(
        name="no-resources",
        how="deploy a version that requires a resource that no node has",
        breaks=released("no-resources", "", resources={"nowhere": 1}),
        must=(
            Expect("RayServeReplicasNotPlaced", 120),
            Expect("RayServeReplicasMissing", 180),
            Expect("RayServeRolloutStuck", 300),
        ),
        may=WITHOUT_REPLICAS,
        apps=app("no-resources", rate=0.2),
        phase=3,
        arrives=2,
    ),
    Fault(
        name="failing-constructor",
        how="deploy a version whose constructor raises",
        breaks=released("failing-constructor", "raise"),
        must=(
            Expect("RayServeApplicationDeployFailed", 150),
            Expect("RayServeDeploymentUnhealthy", 180),
            Expect("RayServeReplicaStartFailing", 150),
        ),
        may=(*WITHOUT_REPLICAS, "RayServeRolloutStuck"),
        apps=app("failing-constructor"),
        phase=3,
        arrives=2,
    ),
    Fault(
        name="bad-rollout",
        how="deploy a version that is slow and fails sometimes",
        breaks=released("bad-rollout", "worse"),
        must=(Expect("RayServeErrorsAfterDeploy", 120), Expect("RayServeSlowerAfterDeploy", 180)),
        # Its one replica is replaced: requests wait until the new one is there.
        may=(*FAILING, *SLOW),
        apps=app("bad-rollout", rate=3),
        before_s=300,
        phase=3,
    ),
    Fault(
        name="exit-at-start",
        how="kill -9 the only replica; each new one crashes while it starts",
        breaks=exit_at_start,
        must=(Expect("RayServeNoReplicas", 90), Expect("RayServeApplicationUnhealthy", 90)),
        may=(*WITHOUT_REPLICAS, "RayServeReplicaCrashLooping", "RayServeReplicasNotPlaced"),
        apps=app("exit-at-start"),
        phase=3,
        arrives=2,
    ),
    Fault(
        name="beyond-max-replicas",
        how="6.5 slow requests per second to a deployment at max_replicas 2, which handles four",
        breaks=overwhelmed("beyond-max-replicas", 6.5),
        must=(
            Expect("RayServeQueueGrowing", 240),
            Expect("RayServeReplicasSaturated", 240),
            Expect("RayServeRouterWaitHigh", 180),
            Expect("RayServeCappedByMaxReplicas", 240),
        ),
        may=(*SLOW, "RayServeAtMaxReplicas", "RayServeQueueNearLimit", "RayServeBackPressure"),
        apps=app(
            "beyond-max-replicas",
            work_s=1,
            max_ongoing=15,
            max_queued=5000,
            autoscaling={**AUTOSCALING, "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 6},
        ),
        phase=4,
        arrives=4,
    ),
    Fault(
        name="flapping-load",
        how="load that alternates, and an autoscaler with delays of half a second",
        breaks=swing,
        must=(Expect("RayServeScaleFlapping", 200),),
        may=("RayServeRouterWaitHigh", "RayServeReplicasMissing"),
        apps=app(
            "flapping-load",
            work_s=1,
            autoscaling={
                **AUTOSCALING,
                "min_replicas": 1,
                "max_replicas": 2,
                "target_ongoing_requests": 2,
                "look_back_period_s": 2,
                "upscale_delay_s": 0.5,
                "downscale_delay_s": 0.5,
            },
        ),
        phase=4,
        arrives=4,
    ),
    Fault(
        name="flood",
        how="30 times the usual traffic",
        breaks=flooded("flood", 30),
        must=(Expect("RayServeTrafficFlood", 90),),
        may=SLOW,
        apps=app("flood", replicas=1),
        phase=5,
        arrives=2,
        before_s=scaled(70 * 60) + 15,  # what is usual is known after that
    ),
    Fault(
        name="stop-exporter",
        how="kill -9 the state exporter",
        breaks=stop_exporter,
        must=(Expect("ServescopeExporterDown", 75),),
        phase=5,
    ),
    Fault(
        name="kill-proxy",
        how="kill -9 the second node's proxy, and occupy its port before it restarts",
        breaks=kill_proxy,
        must=(Expect("RayServeProxyUnhealthy", 90), Expect("RayServeProbeFailing", 60)),
        may=("RayServeProxyMissing",),
        apps=app("kill-proxy", on_worker=True, rate=0.2),
        phase=5,
        stays=True,
    ),
    Fault(
        name="full-disk",
        how="fill the second node's disk to 97 %",
        breaks=fill_disk,
        must=(Expect("RayClusterDiskFilling", 75), Expect("RayClusterDiskFull", 45)),
        apps=app("full-disk", on_worker=True, rate=0.2),
        phase=6,
        stays=True,
    ),
    Fault(
        name="kill-node",
        how="kill -9 all processes of the second node",
        breaks=kill_node,
        must=(Expect("RayClusterNodeLost", 90),),
        may=(
            *WITHOUT_REPLICAS,
            "RayServeReplicasNotPlaced",
            "RayServeProbeFailing",
            "ServescopeTargetDown",
            "RayServeProxyUnhealthy",
            "RayServeProxyMissing",
        ),
        apps=app("kill-node", on_worker=True, rate=0.2),
        everywhere=True,
        phase=7,
        stays=True,
    ),
    Fault(
        name="kill-controller",
        how="kill -9 the controller each time it restarts",
        breaks=kill_controller,
        must=(Expect("RayServeControllerStalled", 60),),
        # The proxy that has just been killed comes back without routes while there is no controller to tell them.
        may=("RayServeProxyMissing", "RayServeHealthzFailing"),
        phase=6,
    ),
    Fault(
        name="kill-head",
        how="kill -9 all processes of the head, without an external Redis",
        breaks=kill_head,
        must=(
            Expect("RayClusterHeadGone", 45),
            Expect("RayClusterGcsGone", 45),
            Expect("RayServeProbeFailing", 45),
            Expect("RayClusterMetricsGone", 180),
            Expect("ServescopeNoRayMetrics", 240),
            Expect("ServescopeTargetDown", 180),
        ),
        may=(
            *WITHOUT_REPLICAS,
            *WITHOUT_CONTROLLER,
            "RayServeRoutesGone",
            "ServescopeExporterDown",
            "ServescopeExporterStale",
            "RayClusterNodeLost",
        ),
        everywhere=True,
        phase=8,
    ),
    Fault(
        name="empty-head",
        how="start a new head, and deploy no application to it",
        breaks=start_empty_head,
        must=(Expect("RayServeHealthzFailing", 150),),
        may=("RayServeProbeFailing", "RayServeRoutesGone", *WITHOUT_CONTROLLER),
        everywhere=True,
        phase=9,
    ),
    Fault(
        name="bad-configuration",
        how="target_ongoing_requests close to the limit, no max_queued_requests, no bucket at the latency threshold",
        breaks=lambda world: lambda: None,
        must=(
            Expect("RayServeTargetNearLimit", 180),
            Expect("RayServeNoQueueLimit", 180),
            Expect("RayServeLatencyBoundMissing", 180),
        ),
        apps=app(
            "bad-configuration",
            max_ongoing=5,
            max_queued=-1,
            autoscaling={**AUTOSCALING, "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 4},
        ),
        world="redis",
        stays=True,
        anywhere=("RayServeLatencyBoundMissing",),
    ),
    Fault(
        name="oom-kill",
        how="a task allocates memory until Ray's memory monitor kills it",
        breaks=switched("hog", "oom-kill"),
        must=(Expect("RayClusterOomKills", 120),),
        # With the task Ray ends what else it chooses: it has taken the controller, and a proxy.
        may=("RayClusterMemoryHigh", "RayServeProbeFailing", *WITHOUT_CONTROLLER),
        apps=app("oom-kill"),
        world="redis",
        stays=True,
    ),
    Fault(
        name="spill",
        how="a replica keeps more objects than fit into the object store",
        breaks=switched("keep", "spill"),
        must=(Expect("RayClusterObjectStoreSpilling", 180),),
        apps=app("spill"),
        world="redis",
        stays=True,
    ),
    Fault(
        name="kill-head-ft",
        how="kill -9 all processes of the head, with its state in Redis, and restart it",
        breaks=kill_head_for_a_while,
        must=(
            Expect("RayClusterGcsGone", 60),
            Expect("RayClusterHeadGone", 60),
            Expect("ServescopeExporterStale", 200),
            Expect("RayServeProbeFailing", 60),
        ),
        may=(*WITHOUT_CONTROLLER, "ServescopeTargetDown", "ServescopeExporterDown", "RayClusterMetricsGone"),
        apps=app("kill-head-ft", on_worker=True),
        world="redis",
        phase=2,
        resolves_s=180,
        stays=True,
    ),
)
