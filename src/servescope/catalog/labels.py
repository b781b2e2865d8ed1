"""Labels and remarks that several metrics of the catalogue share."""

from __future__ import annotations

APP = ("application",)

INGRESS = ("application", "method", "route", "status_code")

INGRESS_ERROR = ("application", "error_code", "method", "route")

DEPLOYMENT = ("application", "deployment")

REPLICA = ("application", "deployment", "replica")

REPLICA_ROUTE = (*REPLICA, "route")

BATCH = (*DEPLOYMENT, "function_name", "replica")

HANDLE = ("actor_id", *DEPLOYMENT, "handle")

ROUTER = ("actor_id", *DEPLOYMENT, "handle_source")

LOOP = ("actor_id", *DEPLOYMENT, "component", "loop_type")

PROXY = ("node_id", "node_ip_address")

NO_REPLICA_SINCE_260 = {"replica": "2.60"}

BORN_AT_1 = "Its series are born at 1, so increase() misses the first event; use promql.events."

VANISHES = "event-driven: vanishes 20 s after its last change"

AUTOSCALING_ONLY = "autoscaling deployments only"

GAP = "No bucket bound between 10 s and 60 s: quantiles of slow requests are interpolated across that gap."

HAPROXY = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"

INGRESS_ROUTER = "HAProxy mode with an ingress request router"

GPU = "a GPU"

GROWS = "Exported as a gauge although it only grows."
