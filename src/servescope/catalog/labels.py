"""Labels that several metrics of the catalogue share: what each series measures."""

from __future__ import annotations

APPLICATION = ("application",)
DEPLOYMENT = ("application", "deployment")
REPLICA = ("application", "deployment", "replica")
REPLICA_ROUTE = (*REPLICA, "route")
BATCH = (*DEPLOYMENT, "function_name", "replica")

# At the proxy: requests, those that failed, and the proxy itself.
INGRESS = ("application", "method", "route", "status_code")
INGRESS_ERROR = ("application", "error_code", "method", "route")
PROXY = ("node_id", "node_ip_address")

# In a caller, which is a proxy or a replica.
HANDLE = ("actor_id", *DEPLOYMENT, "handle")
ROUTER = ("actor_id", *DEPLOYMENT, "handle_source")

EVENT_LOOP = ("actor_id", *DEPLOYMENT, "component", "loop_type")

# For `older_labels`: the replica label went with Ray 2.60.
NO_REPLICA_SINCE_260 = {"replica": "2.60"}
