"""Metrics of the servescope exporter, from Serve's REST API."""

from __future__ import annotations

from servescope.catalog.labels import APPLICATION, DEPLOYMENT, REPLICA
from servescope.catalog.model import COUNTER, GAUGE, Metric, Origin, Source, group
from servescope.catalog.remarks import AUTOSCALING_ONLY

EXPORTER = group(
    "State exporter",
    Metric(
        name="servescope_application_info",
        kind=GAUGE,
        unit="1",
        labels=("application", "route_prefix"),
        help="Always 1; carries the route prefix as a label.",
    ),
    Metric(
        name="servescope_application_status",
        kind=GAUGE,
        unit="1",
        labels=("application", "status"),
        help="1 for the application's current status.",
    ),
    Metric(
        name="servescope_application_last_deployed_timestamp_seconds",
        kind=GAUGE,
        unit="s",
        labels=APPLICATION,
        help="Unix time of the last deploy that included the application.",
        trap=(
            "A deploy updates it for every application of the config file, changed or not; use the fingerprint to see "
            "which changed."
        ),
    ),
    Metric(
        name="servescope_deployment_status",
        kind=GAUGE,
        unit="1",
        labels=(*DEPLOYMENT, "status"),
        help="1 for the deployment's current status.",
    ),
    Metric(
        name="servescope_deployment_config_info",
        kind=GAUGE,
        unit="1",
        labels=(*DEPLOYMENT, "fingerprint"),
        help=(
            "Always 1; the fingerprint label changes with what is deployed: with the Serve config file, or with each "
            "deploy by a program."
        ),
        trap=(
            "New code with the same import path and runtime_env changes neither this nor anything for Ray: put a "
            "version into the config file's runtime_env."
        ),
    ),
    Metric(
        name="servescope_deployment_configured_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="num_replicas of a deployment without autoscaling.",
        appears="deployments with a fixed num_replicas",
    ),
    Metric(
        name="servescope_deployment_min_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="Minimum number of replicas.",
        appears=AUTOSCALING_ONLY,
    ),
    Metric(
        name="servescope_deployment_max_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="Maximum number of replicas: it limits both capacity and cost.",
        appears=AUTOSCALING_ONLY,
    ),
    Metric(
        name="servescope_deployment_initial_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="Number of replicas at the start.",
        appears=AUTOSCALING_ONLY,
        needs="initial_replicas set",
    ),
    Metric(
        name="servescope_deployment_target_ongoing_requests",
        kind=GAUGE,
        unit="requests",
        labels=DEPLOYMENT,
        help="Average ongoing requests per replica that the autoscaler aims for.",
        appears=AUTOSCALING_ONLY,
    ),
    Metric(
        name="servescope_deployment_upscale_delay_seconds",
        kind=GAUGE,
        unit="s",
        labels=DEPLOYMENT,
        help="How long the load must require more replicas before a scale-up.",
        appears=AUTOSCALING_ONLY,
    ),
    Metric(
        name="servescope_deployment_downscale_delay_seconds",
        kind=GAUGE,
        unit="s",
        labels=DEPLOYMENT,
        help="How long the load must require fewer replicas before a scale-down.",
        appears=AUTOSCALING_ONLY,
    ),
    # In Ray's REST API since 2.60.
    Metric(
        name="servescope_deployment_backpressure_status_code",
        kind=GAUGE,
        unit="HTTP status",
        labels=DEPLOYMENT,
        help="HTTP status of requests that are rejected because a queue is full.",
        since="2.60",
    ),
    Metric(
        name="servescope_deployment_rolling_update_percentage",
        kind=GAUGE,
        unit="ratio",
        labels=DEPLOYMENT,
        help="Share of replicas that a rollout replaces at once, 0 to 1.",
        since="2.60",
    ),
    Metric(
        name="servescope_deployment_target_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="Target replicas: how many the controller wants now.",
    ),
    Metric(
        name="servescope_deployment_max_ongoing_requests",
        kind=GAUGE,
        unit="requests",
        labels=DEPLOYMENT,
        help="Maximum number of concurrent requests per replica.",
    ),
    Metric(
        name="servescope_deployment_max_queued_requests",
        kind=GAUGE,
        unit="requests",
        labels=DEPLOYMENT,
        help="Maximum number of queued requests per caller; -1 is no limit.",
    ),
    Metric(
        name="servescope_deployment_graceful_shutdown_timeout_seconds",
        kind=GAUGE,
        unit="s",
        labels=DEPLOYMENT,
        help="Time that a stopping replica has to finish its requests.",
    ),
    Metric(
        name="servescope_deployment_health_check_period_seconds",
        kind=GAUGE,
        unit="s",
        labels=DEPLOYMENT,
        help="Time between health checks.",
    ),
    Metric(
        name="servescope_deployment_health_check_timeout_seconds",
        kind=GAUGE,
        unit="s",
        labels=DEPLOYMENT,
        help="Timeout of a health check.",
    ),
    Metric(
        name="servescope_deployment_replica_cpus",
        kind=GAUGE,
        unit="CPUs",
        labels=DEPLOYMENT,
        help="CPUs that each replica reserves, its placement group included.",
    ),
    Metric(
        name="servescope_deployment_replica_gpus",
        kind=GAUGE,
        unit="GPUs",
        labels=DEPLOYMENT,
        help="GPUs that each replica reserves, its placement group included.",
    ),
    Metric(
        name="servescope_deployment_replica_memory_bytes",
        kind=GAUGE,
        unit="bytes",
        labels=DEPLOYMENT,
        help="Memory that each replica reserves; 0 if none.",
    ),
    Metric(
        name="servescope_deployment_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=(*DEPLOYMENT, "state"),
        help="Replicas by state.",
    ),
    Metric(
        name="servescope_deployment_unplaced_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help=(
            "Starting replicas that are not placed on a node yet: they wait for resources, a node or their runtime "
            "environment."
        ),
    ),
    Metric(
        name="servescope_deployment_market_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=(*DEPLOYMENT, "market_type"),
        help="Placed replicas by market type of their node (label ray.io/market-type), or unknown.",
    ),
    Metric(
        name="servescope_replica_start_time_seconds",
        kind=GAUGE,
        unit="s",
        labels=(*REPLICA, "node_ip", "state"),
        help="Unix time at which the replica started.",
        appears="only with --each-replica",
        needs="the exporter with --each-replica",
    ),
    Metric(name="servescope_proxies", kind=GAUGE, unit="proxies", labels=("status",), help="Proxies by status."),
    Metric(
        name="servescope_exporter_up",
        kind=GAUGE,
        unit="1",
        labels=(),
        help="1 if the exporter's last fetch from Ray succeeded.",
    ),
    Metric(
        name="servescope_exporter_build_info",
        kind=GAUGE,
        unit="1",
        labels=("version",),
        help="Always 1; carries the exporter's version as a label.",
    ),
    Metric(
        name="servescope_exporter_data_age_seconds",
        kind=GAUGE,
        unit="s",
        labels=(),
        help="Age of the exported data; it grows while Ray is unreachable.",
        appears="after the first successful fetch",
    ),
    Metric(
        name="servescope_exporter_fetch_duration_seconds",
        kind=GAUGE,
        unit="s",
        labels=(),
        help="Duration of the last fetch.",
    ),
    Metric(
        name="servescope_exporter_fetches_total",
        kind=COUNTER,
        unit="fetches",
        labels=(),
        help="Fetches from Ray, failed ones included.",
    ),
    Metric(
        name="servescope_exporter_fetch_failures_total",
        kind=COUNTER,
        unit="fetches",
        labels=("reason",),
        help="Failed fetches from Ray by reason.",
    ),
    source=Source.EXPORTER,
    origin=Origin.NONE,
)
