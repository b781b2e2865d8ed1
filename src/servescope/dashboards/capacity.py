"""servescope-capacity: how much room is left, and what does it cost? Needs the state exporter."""

from __future__ import annotations

from servescope import promql
from servescope.dashboards import common
from servescope.dashboards.common import DEPLOYMENT_LEGEND
from servescope.grafana import layout, panels
from servescope.grafana.layout import Dashboard
from servescope.grafana.model import PALETTE, Column, Panel
from servescope.promql import APPLICATION, DEPLOYMENT, REPLICA, capacity, cost, rollouts
from servescope.promql.signals import DEPLOYMENT_REQUESTS, PROCESSING_LATENCY, QUEUED, REPLICAS, TARGET_REPLICAS, Reader
from servescope.settings import Settings

_REACH = "can reach (reachable_cpus and reachable_gpus in the settings; else what its nodes have now)"


def build(settings: Settings, *, recorded: bool = False) -> Dashboard:
    """The dashboard, plain or reading recorded series."""
    r = common.reader(settings, recorded, "application", "deployment")
    everything = common.reader(settings, recorded)  # the cluster is there for all of its deployments
    return layout.dashboard(
        uid="servescope-capacity",
        title="Ray Serve / Capacity",
        description="How much room is left, and what does it cost?",
        rows=[
            panels.row("How much room is left?", _room(r, everything, settings)),
            panels.row("Load against limits", _load(r)),
            panels.row("Autoscaling", _autoscaling(r)),
            panels.row("Are the settings right?", _settings(r)),
            panels.row("Hours and cost", _cost(r, settings)),
            panels.row("The cluster", _cluster(r, settings)),
            panels.row("GPUs", _gpus(r, everything, settings), collapsed=True),
        ],
        variables=common.standard_variables(settings, "application", "deployment"),
        annotations=common.rollout_marks(settings),
        settings=settings,
    )


def _room(r: Reader, everything: Reader, settings: Settings) -> list[Panel]:
    return [
        panels.stat(
            "Fullest deployment",
            description=(
                "Requests in progress against what its healthy replicas take at once (replicas x "
                "max_ongoing_requests), for the deployment nearest to its limit. At 100 % new requests wait."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.in_flight_share(r), (), "max"))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Fullest queue",
            description=(
                "Requests waiting at one caller against max_queued_requests, for the queue nearest to its limit. At "
                "100 % that caller's requests are turned away. Deployments without a limit do not count."
            ),
            unit="percentunit",
            queries=[panels.query(promql.total(capacity.queue_share(r), (), "max"))],
            thresholds=common.UTILIZATION,
        ),
        panels.stat(
            "Capped by max_replicas",
            description="Deployments whose load asks for more replicas than max_replicas allows. Normal is 0.",
            unit="none",
            queries=[panels.query(capacity.capped(r))],
            thresholds=common.ANY_IS_RISKY,
        ),
        panels.stat(
            "Replicas not coming up",
            description=(
                "Deployments that have been short of replicas for two minutes: nowhere to place them, or a constructor "
                "that fails or takes longer than that; Why not at rest? below tells which. Normal is 0."
            ),
            unit="none",
            queries=[
                panels.query(
                    capacity.count(
                        f"{capacity.autoscaling_state(r)} >= {capacity.NOT_UP}", capacity.limit(r, "target_replicas")
                    )
                )
            ],
            thresholds=common.ANY_IS_BAD,
        ),
        panels.stat(
            "CPUs at the ceiling",
            description=(
                "CPUs that all deployments, chosen or not, would reserve with every replica that max_replicas (or "
                f"num_replicas) allows, against those that the cluster {_REACH}. Above 100 % the last ones would "
                "never start."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    f"{promql.total(_at_ceiling(everything, 'replica_cpus'))} / {_reachable(r, settings, 'CPU')}"
                )
            ],
            width=8,
            thresholds=common.UTILIZATION,
        ),
        panels.table(
            "Deployments",
            description=(
                "One line for each deployment, as it is now. Demand is the number of replicas that the load asks for; "
                "empty for a fixed num_replicas, which nothing scales."
            ),
            queries=[
                panels.query(capacity.in_flight_share(r)),
                panels.query(capacity.queue_share(r)),
                panels.query(r.read(QUEUED, DEPLOYMENT)),
                panels.query(r.read(REPLICAS, DEPLOYMENT)),
                panels.query(r.read(TARGET_REPLICAS, DEPLOYMENT)),
                panels.query(capacity.demand(r)),
                panels.query(capacity.limit(r, "min_replicas")),
                panels.query(capacity.most_replicas(r)),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                Column("deployment", "Deployment", links=(common.ROW_TO_DEPLOYMENT,)),
                Column("Value #A", "In flight", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #B", "Queue", unit="percentunit", thresholds=common.UTILIZATION),
                Column("Value #C", "Waiting", unit="none"),
                Column("Value #D", "Replicas", unit="none"),
                Column("Value #E", "Target", unit="none"),
                Column("Value #F", "Demand", unit="none", decimals=1),
                Column("Value #G", "Min", unit="none"),
                Column("Value #H", "Max", unit="none"),
            ],
            sort_by="In flight",
            width=24,
        ),
    ]


def _load(r: Reader) -> list[Panel]:
    link = (common.SERIES_TO_DEPLOYMENT,)
    # A load that falls or stands still never gets there, and what lies a day ahead is no forecast any more.
    growth = f"(deriv(({capacity.demand(r)})[10m:30s]) > 0)"
    left = f"(clamp_min({capacity.limit(r, 'max_replicas')} - {capacity.demand(r)}, 0) / {growth}) < 86400"
    return [
        panels.timeseries(
            "In flight share",
            description=(
                "Requests in progress against replicas x max_ongoing_requests. Above 80 % bursts have to wait; "
                "autoscaling keeps it near target_ongoing_requests / max_ongoing_requests."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.in_flight_share(r), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Queue share",
            description=(
                "The fullest caller's queue against max_queued_requests, which holds for each caller. At 100 % "
                "requests are turned away with 503 or 429. Without a limit (-1) there is no line."
            ),
            unit="percentunit",
            queries=[panels.query(capacity.queue_share(r), DEPLOYMENT_LEGEND)],
            min=0,
            thresholds=common.UTILIZATION,
            links=link,
        ),
        panels.timeseries(
            "Time to max_replicas",
            description=(
                "How long until the load asks for more than max_replicas, if it goes on growing as in the last ten "
                "minutes. No line means that it does not grow, or that the ceiling is more than a day away."
            ),
            unit="s",
            queries=[panels.query(left, DEPLOYMENT_LEGEND)],
            min=0,
            absent="a load that grows towards max_replicas",
        ),
    ]


def _autoscaling(r: Reader) -> list[Panel]:
    target = r.read(TARGET_REPLICAS, DEPLOYMENT)
    return [
        panels.state_timeline(
            "Why not at rest?",
            description=common.WHY,
            queries=[panels.query(capacity.autoscaling_state(r), DEPLOYMENT_LEGEND)],
            states=common.WHY_STATES,
            links=(common.SERIES_TO_DEPLOYMENT,),
        ),
        panels.timeseries(
            "Demand and ceiling",
            description=(
                "Replicas that the load asks for (total requests / target_ongoing_requests) and max_replicas (dashed)."
            ),
            unit="short",
            queries=[
                panels.query(capacity.demand(r), f"{DEPLOYMENT_LEGEND} demand"),
                panels.query(capacity.limit(r, "max_replicas"), f"{DEPLOYMENT_LEGEND} max"),
            ],
            width=7,
            min=0,
            dashed=("/max$/",),
        ),
        panels.timeseries(
            "Target and floor",
            description=(
                "Replicas that the controller wants and min_replicas (dashed), where there is autoscaling. A target "
                "that never leaves the floor pays for itself only if starting a replica takes too long."
            ),
            unit="short",
            queries=[
                panels.query(f"{target} and {capacity.limit(r, 'min_replicas')}", f"{DEPLOYMENT_LEGEND} target"),
                panels.query(capacity.limit(r, "min_replicas"), f"{DEPLOYMENT_LEGEND} min"),
            ],
            width=7,
            min=0,
            dashed=("/min$/",),
        ),
        panels.table(
            "Pauses between peaks",
            description=(
                "Pause: how long the load asked for no more than min_replicas, for each peak of the time range. A "
                "delay a little shorter than the pause is the worst of both: replicas wait through most of it, and "
                "every peak pays for their start again, which shows as changes of the target. Raise downscale_delay_s "
                "above the pause, or set it far below."
            ),
            queries=[
                panels.query(cost.mean_idle_seconds(r)),
                panels.query(capacity.limit(r, "downscale_delay_seconds")),
                panels.query(
                    promql.total(
                        f"changes({r.select('servescope_deployment_target_replicas')}[$__range])", DEPLOYMENT, "max"
                    )
                ),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Pause", unit="s"),
                Column("Value #B", "Downscale delay", unit="s"),
                Column("Value #C", "Changes of target", unit="none"),
            ],
            sort_by="Changes of target",
            width=10,
        ),
    ]


def _settings(r: Reader) -> list[Panel]:
    share = f"({capacity.limit(r, 'target_ongoing_requests')} / {capacity.limit(r, 'max_ongoing_requests')})"
    started = promql.events(
        r.scope, "ray_serve_replica_startup_latency_ms_bucket", (*DEPLOYMENT, "le"), window="$__interval"
    )
    in_progress = promql.total(
        f"avg_over_time({r.select('ray_serve_replica_processing_queries')}[$__rate_interval])", DEPLOYMENT
    )
    calls = r.read(DEPLOYMENT_REQUESTS, DEPLOYMENT)
    healthy = f"({r.read(REPLICAS, DEPLOYMENT)} > 0)"
    busiest = promql.total(r.select("ray_serve_replica_processing_queries"), REPLICA, "max")

    low, high = capacity.TARGET_FAR_BELOW_LIMIT, capacity.TARGET_NEAR_LIMIT

    def advice(condition: str, text: str) -> str:
        return f'label_replace({share} {condition}, "advice", "{text}", "", "")'

    return [
        panels.table(
            "target_ongoing_requests against max_ongoing_requests",
            description=(
                "The target should be about half of the limit, so that a burst finds room while the next replica "
                "starts: between 30 % and 70 %; above, RayServeTargetNearLimit tells. Measure the limit itself: it is "
                "where more requests at once bring no more throughput."
            ),
            queries=[
                panels.query(
                    " or ".join(
                        (
                            advice(
                                f"> {high}", "Lower the target to half of the limit: queues grow before replicas do."
                            ),
                            advice(f"< {low}", "Lower the limit: a replica may get far more than it is planned for."),
                            advice(f">= {low} <= {high}", "Fine: a burst finds room while the next replica starts."),
                        )
                    )
                ),
                panels.query(capacity.limit(r, "target_ongoing_requests")),
                panels.query(capacity.limit(r, "max_ongoing_requests")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Share", unit="percentunit"),
                Column("Value #B", "Target", unit="none"),
                Column("Value #C", "Limit", unit="none"),
                Column("advice", "Advice"),
            ],
            sort_by="Share",
        ),
        panels.table(
            "Delays against start times",
            description=(
                "Seconds. A replica is of use one delay and one start after the load rose: what arrives until then "
                "must fit into the queues. Where the start takes longer than the upscale delay, scale earlier: a "
                "lower target, or a higher min_replicas. Start: 95 % of the starts in the time range took at most "
                "this long."
            ),
            queries=[
                panels.query(capacity.limit(r, "upscale_delay_seconds")),
                panels.query(f"{promql.quantile(0.95, promql.over_range(started))} / 1000"),
                panels.query(capacity.limit(r, "downscale_delay_seconds")),
                panels.query(capacity.limit(r, "graceful_shutdown_timeout_seconds")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Upscale delay", unit="s"),
                Column("Value #B", "Start (p95)", unit="s"),
                Column("Value #C", "Downscale delay", unit="s"),
                Column("Value #D", "Shutdown timeout", unit="s"),
            ],
            sort_by="Start (p95)",
        ),
        panels.timeseries(
            "Time in the replica by Little's law",
            description=(
                "Requests in progress divided by calls finished per second is the mean time in the replica (solid), "
                "whatever the buckets say. Far above the measured p95 (dashed) requests hang that have not finished "
                "yet; far below the median the load comes in bursts that the reports miss."
            ),
            unit="ms",
            queries=[
                panels.query(f"1000 * {in_progress} / ({calls} > 0)", f"{DEPLOYMENT_LEGEND} by Little's law"),
                panels.query(r.quantile(0.95, PROCESSING_LATENCY, DEPLOYMENT), f"{DEPLOYMENT_LEGEND} p95"),
            ],
            width=12,
            min=0,
            dashed=("/p95$/",),
        ),
        panels.table(
            "The most that one replica carried in a day",
            description=(
                "To size the next deployment: calls per second and requests at once that one replica carried at its "
                "best in the last 24 hours, and the limit. Requests at once are those of the busiest replica."
            ),
            queries=[
                panels.query(f"max_over_time(({calls} / {healthy})[1d:1m])"),
                panels.query(f"max_over_time(({promql.total(busiest, DEPLOYMENT, 'max')})[1d:1m])"),
                panels.query(capacity.limit(r, "max_ongoing_requests")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Calls/s", unit="reqps", decimals=1),
                Column("Value #B", "At once", unit="none"),
                Column("Value #C", "Limit", unit="none"),
            ],
            sort_by="Calls/s",
        ),
    ]


def _cost(r: Reader, settings: Settings) -> list[Panel]:
    replicas = capacity.reserved_replicas(r)
    cpus, gpus = (capacity.reserved(r, resource, replicas) for resource in ("replica_cpus", "replica_gpus"))
    processing = promql.total(r.select("ray_serve_replica_processing_queries"), REPLICA, "max")
    there = promql.total(processing, DEPLOYMENT, "count")
    idle = f"({promql.total(f'{processing} == 0', DEPLOYMENT, 'count')} or 0 * {there}) / {there}"
    calls = r.read(DEPLOYMENT_REQUESTS, DEPLOYMENT)
    money = _money(r, settings, replicas, calls=calls) if settings.priced else []
    return [
        panels.table(
            "Hours by deployment",
            description=(
                "Over the time range: hours for which replicas existed, and the CPU and GPU hours that they reserved, "
                "starts and shutdowns included. Idle is the share of replicas that had nothing in progress, of those "
                "that report their load: a replica that starts or stops does not, and counts in the hours only. On "
                "spot is the share on spot nodes, where nodes tell."
            ),
            queries=[
                panels.query(cost.hours(replicas)),
                panels.query(cost.hours(cpus)),
                panels.query(cost.hours(gpus)),
                panels.query(f"avg_over_time(({idle}){rollouts.STEPS})"),
                panels.query(f"avg_over_time(({cost.spot_share(r)}){rollouts.STEPS})"),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Replica hours", unit="none", decimals=2),
                Column("Value #B", "CPU hours", unit="none", decimals=2),
                Column("Value #C", "GPU hours", unit="none", decimals=2),
                Column("Value #D", "Idle", unit="percentunit"),
                Column("Value #E", "On spot", unit="percentunit"),
            ],
            sort_by="Replica hours",
        ),
        panels.table(
            "Floods: the last hour above the usual level",
            description=(
                "Replica hours of the last hour above the median of the last day, and the most that max_replicas would "
                "have allowed: what one hour of unwanted traffic can cost at worst."
            ),
            queries=[
                panels.query(cost.surge_replica_hours(r)),
                panels.query(cost.surge_replica_hours_limit(r)),
                panels.query(cost.usual_replicas(r)),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Above usual", unit="none", decimals=2),
                Column("Value #B", "At most", unit="none", decimals=2),
                Column("Value #C", "Usual replicas", unit="none", decimals=1),
            ],
            sort_by="Above usual",
        ),
        panels.timeseries(
            "Idle replicas",
            description=(
                "Share of each deployment's replicas that have nothing in progress, of those that report their load: "
                "a replica that starts or stops does not. Always high means that min_replicas or num_replicas is "
                "above what the load needs."
            ),
            unit="percentunit",
            queries=[panels.query(idle, DEPLOYMENT_LEGEND)],
            min=0,
            max=1,
        ),
        panels.timeseries(
            "CPUs reserved",
            description="CPUs that the replicas of each deployment reserve, whether they use them or not.",
            unit="short",
            queries=[panels.query(cpus, DEPLOYMENT_LEGEND)],
            stack=True,
        ),
        panels.timeseries(
            "CPU seconds of 1,000 calls",
            description=(
                "CPU time reserved for a thousand calls: the price of a request before anybody names one. It rises "
                "when replicas stand idle."
            ),
            unit="s",
            queries=[panels.query(f"1000 * {cpus} / ({calls} > 0)", DEPLOYMENT_LEGEND)],
            min=0,
        ),
        *money,
    ]


def _money(r: Reader, settings: Settings, replicas: str, *, calls: str) -> list[Panel]:
    an_hour = cost.hourly_cost(r, settings, replicas)
    return [
        panels.table(
            "Cost by deployment",
            description=(
                f"Over the time range, at {settings.price_per_gpu_hour:g} for a GPU hour and "
                f"{settings.price_per_cpu_hour:g} for a CPU hour; the rate is that of now. Flood: the last hour above "
                "the usual level, and the most that max_replicas would have allowed."
            ),
            queries=[
                panels.query(cost.hours(an_hour)),
                panels.query(an_hour),
                panels.query(f"1000 * {an_hour} / 3600 / ({calls} > 0)"),
                panels.query(cost.hourly_cost(r, settings, f"({cost.surge_replica_hours(r)})")),
                panels.query(cost.hourly_cost(r, settings, f"({cost.surge_replica_hours_limit(r)})")),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                common.DEPLOYMENT_COLUMN,
                Column("Value #A", "Cost", unit="none", decimals=2),
                Column("Value #B", "An hour", unit="none", decimals=2),
                Column("Value #C", "1,000 calls", unit="none", decimals=4),
                Column("Value #D", "Flood", unit="none", decimals=2),
                Column("Value #E", "Flood at most", unit="none", decimals=2),
            ],
            sort_by="Cost",
            width=16,
        ),
        panels.table(
            "Cost by application",
            description="Over the time range; the rate is that of now.",
            queries=[
                panels.query(promql.total(cost.hours(an_hour), APPLICATION)),
                panels.query(promql.total(an_hour, APPLICATION)),
            ],
            columns=[
                common.APPLICATION_COLUMN,
                Column("Value #A", "Cost", unit="none", decimals=2),
                Column("Value #B", "An hour", unit="none", decimals=2),
            ],
            sort_by="Cost",
            width=8,
        ),
        panels.timeseries(
            "Cost of an hour by application",
            description="What the replicas that each application has now cost in an hour.",
            unit="none",
            queries=[panels.query(promql.total(an_hour, APPLICATION), "{{application}}")],
            width=24,
            stack=True,
        ),
    ]


def _at_ceiling(r: Reader, resource: str) -> str:
    return capacity.reserved(r, resource, capacity.most_replicas(r))


def _reachable(r: Reader, settings: Settings, resource: str) -> str:
    """What the cluster can reach: as the settings say, since Ray tells no upper bound, or else what it has now."""
    most = settings.reachable_cpus if resource == "CPU" else settings.reachable_gpus
    return f"vector({most:g})" if most else promql.total(r.select("ray_resources", Name=f'="{resource}"'))


def _against(r: Reader, settings: Settings, name: str, *, width: int, absent: str = "") -> Panel:
    resource = f"replica_{name.lower()}s"
    now = capacity.reserved(r, resource, capacity.reserved_replicas(r))
    return panels.timeseries(
        f"{name}s reserved, allowed and there",
        description=(
            f"{name}s that the chosen deployments reserve now, that they would reserve with every replica they are "
            f"allowed, and that the cluster {_REACH} (dashed). What other Ray programs reserve does not count."
        ),
        unit="short",
        queries=[
            panels.query(promql.total(now), "reserved now"),
            panels.query(promql.total(_at_ceiling(r, resource)), "at the ceiling"),
            panels.query(_reachable(r, settings, name), "cluster"),
        ],
        width=width,
        min=0,
        colors={"reserved now": PALETTE.neutral, "at the ceiling": PALETTE.at_risk, "cluster": PALETTE.muted},
        dashed=("cluster",),
        absent=absent,
    )


def _gpus(r: Reader, everything: Reader, settings: Settings) -> list[Panel]:
    return [
        panels.stat(
            "GPUs at the ceiling",
            description=(
                "GPUs that all deployments, chosen or not, would reserve with every replica that they are allowed, "
                f"against those that the cluster {_REACH}. Above 100 % the last ones would never start."
            ),
            unit="percentunit",
            queries=[
                panels.query(
                    f"{promql.total(_at_ceiling(everything, 'replica_gpus'))} / ({_reachable(r, settings, 'GPU')} > 0)"
                )
            ],
            width=8,
            height=8,
            thresholds=common.UTILIZATION,
            absent="a GPU on a node",
        ),
        _against(r, settings, "GPU", width=16, absent="a GPU on a node"),
    ]


def _cluster(r: Reader, settings: Settings) -> list[Panel]:
    return [
        _against(r, settings, "CPU", width=12),
        panels.timeseries(
            "Replicas by market",
            description=(
                "Replicas of the chosen deployments by how their nodes are paid for, from the node label "
                "ray.io/market-type. Spot nodes may go at two minutes' notice: what must not fail with them needs "
                "replicas elsewhere. Unknown: the node has no such label; set RAY_NODE_MARKET_TYPE where it starts."
            ),
            unit="short",
            queries=[
                panels.query(
                    promql.total(r.select("servescope_deployment_market_replicas"), ("market_type",)), "{{market_type}}"
                )
            ],
            width=12,
            min=0,
            stack=True,
            colors={"spot": PALETTE.at_risk, "on-demand": PALETTE.neutral, "unknown": PALETTE.muted},
        ),
    ]
