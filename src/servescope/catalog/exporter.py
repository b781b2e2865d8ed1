"""Metrics of the servescope exporter, from Serve's REST API."""

from __future__ import annotations

from servescope.catalog.labels import APP, AUTOSCALING_ONLY, DEPLOYMENT, REPLICA
from servescope.catalog.model import COUNTER, GAUGE, Metric, Origin, Source, group

EXPORTER = group(
    "State exporter",
    Metric(
        name="servescope_application_info",
        kind=GAUGE,
        unit="1",
        labels=("application", "route_prefix"),
        help="1; tells the route prefix.",
    ),
    Metric(
        name="servescope_application_status",
        kind=GAUGE,
        unit="1",
        labels=("application", "status"),
        help="1 for the application's present status.",
    ),
    Metric(
        name="servescope_application_last_deployed_timestamp_seconds",
        kind=GAUGE,
        unit="s",
        labels=APP,
        help="Unix time of the last deploy that named the application.",
        trap="A deploy moves it for every application of the file, changed or not; the fingerprint tells what changed.",
    ),
    Metric(
        name="servescope_deployment_status",
        kind=GAUGE,
        unit="1",
        labels=(*DEPLOYMENT, "status"),
        help="1 for the deployment's present status.",
    ),
    Metric(
        name="servescope_deployment_config_info",
        kind=GAUGE,
        unit="1",
        labels=(*DEPLOYMENT, "fingerprint"),
        help=(
            "1; the fingerprint changes when what was deployed does: the Serve config file, or each deploy by a "
            "program."
        ),
        trap="New code behind the same import path and runtime_env changes nothing here, nor for Ray: name the version "
        "in the file's runtime_env.",
    ),
    Metric(
        name="servescope_deployment_configured_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=DEPLOYMENT,
        help="num_replicas of a deployment that does not scale.",
        appears="deployments with a fixed num_replicas",
    ),
    *(
        Metric(
            name=f"servescope_deployment_{name}",
            kind=GAUGE,
            unit=unit,
            labels=DEPLOYMENT,
            help=help,
            appears=AUTOSCALING_ONLY,
            needs=needs,
        )
        for name, unit, help, needs in (
            ("min_replicas", "replicas", "Fewest replicas.", ""),
            ("max_replicas", "replicas", "Most replicas: the ceiling of the load and of the bill.", ""),
            ("initial_replicas", "replicas", "Replicas to start with.", "initial_replicas set"),
            ("target_ongoing_requests", "requests", "Requests that each replica should carry.", ""),
            ("upscale_delay_seconds", "s", "How long demand must be high before replicas are added.", ""),
            ("downscale_delay_seconds", "s", "How long demand must be low before replicas are removed.", ""),
        )
    ),
    *(
        # Ray's REST API tells these from 2.60 on.
        Metric(name=f"servescope_deployment_{name}", kind=GAUGE, unit=unit, labels=DEPLOYMENT, help=help, since="2.60")
        for name, unit, help in (
            ("backpressure_status_code", "HTTP status", "Status of requests turned away because a queue is full."),
            ("rolling_update_percentage", "ratio", "Share of replicas that a rolling update replaces at once, 0 to 1."),
        )
    ),
    *(
        Metric(name=f"servescope_deployment_{name}", kind=GAUGE, unit=unit, labels=DEPLOYMENT, help=help)
        for name, unit, help in (
            ("target_replicas", "replicas", "Replicas that the controller wants."),
            ("max_ongoing_requests", "requests", "Requests that one replica takes at once."),
            ("max_queued_requests", "requests", "Requests that may wait at each caller; -1 is no limit."),
            ("graceful_shutdown_timeout_seconds", "s", "How long a stopping replica may finish its requests."),
            ("health_check_period_seconds", "s", "Time between health checks."),
            ("health_check_timeout_seconds", "s", "How long a health check may take."),
            ("replica_cpus", "CPUs", "CPUs that each replica reserves, its placement group included."),
            ("replica_gpus", "GPUs", "GPUs that each replica reserves, its placement group included."),
            ("replica_memory_bytes", "bytes", "Memory that each replica reserves; 0 when it reserves none."),
        )
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
            "Starting replicas that no node has taken yet: they wait for resources, a node or their runtime "
            "environment."
        ),
    ),
    Metric(
        name="servescope_deployment_market_replicas",
        kind=GAUGE,
        unit="replicas",
        labels=(*DEPLOYMENT, "market_type"),
        help="Placed replicas by how their node is paid for, as its label ray.io/market-type says, or unknown.",
    ),
    Metric(
        name="servescope_replica_start_time_seconds",
        kind=GAUGE,
        unit="s",
        labels=(*REPLICA, "node_ip", "state"),
        help="Unix time at which a replica was started.",
        appears="only with --each-replica",
        needs="the exporter with --each-replica",
    ),
    Metric(name="servescope_proxies", kind=GAUGE, unit="proxies", labels=("status",), help="Proxies by status."),
    Metric(
        name="servescope_exporter_up",
        kind=GAUGE,
        unit="1",
        labels=(),
        help="1 if the exporter's last fetch from Ray worked.",
    ),
    Metric(
        name="servescope_exporter_data_age_seconds",
        kind=GAUGE,
        unit="s",
        labels=(),
        help="Age of the data served: it grows while Ray does not answer.",
        appears="after the first good fetch",
    ),
    Metric(
        name="servescope_exporter_fetch_duration_seconds",
        kind=GAUGE,
        unit="s",
        labels=(),
        help="Time of the last fetch.",
    ),
    Metric(
        name="servescope_exporter_fetches_total",
        kind=COUNTER,
        unit="fetches",
        labels=(),
        help="Fetches, failed ones included.",
    ),
    Metric(
        name="servescope_exporter_fetch_failures_total",
        kind=COUNTER,
        unit="fetches",
        labels=("reason",),
        help="Failed fetches by reason.",
    ),
    source=Source.EXPORTER,
    origin=Origin.NONE,
)
