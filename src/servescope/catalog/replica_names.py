"""How Ray writes an application and a deployment into one text: the grammar for all that take it apart.

| where | form |
|---|---|
| `Name` of `ray_actors`, `actor_name` and `task_name` in logs | `ServeReplica:<application>:<deployment>` |
| `Component` of `ray_component_*` | `ray::ServeReplica:<application>:<deployment>`, `.<method>` while a method runs |
| the same in the constructor | `ray::SERVE_REPLICA::<replica's full id>:ServeReplica:...:<deployment>.__init__` |
| `deployment` in JSON logs, a field of text logs, names of log files | `<application>_<deployment>` |

Source: `DeploymentID.to_replica_actor_class_name` and `ReplicaID.to_full_id_str` in `ray/serve/_private/common.py`.

Both names are free text, and Ray escapes nothing. Serve LLM names its deployments `LLMServer:<model>`, and models have
dots. So an application ends at the *first* colon, and a deployment at the last dot that one of Ray's own methods
follows. Ambiguous, whoever reads it: an application with a colon, and a deployment whose name ends in a dot and the
name of such a method. An underscore separates nothing for certain: who reads `<application>_<deployment>` needs to
know the applications.
"""

from __future__ import annotations

# The methods that Ray calls on a replica's actor (class ReplicaActor in `ray/serve/_private/replica.py`, 2.54 to 2.60;
# tests/unit/test_replica_names.py compares them with the installed Ray), and those that Python and Ray add.
METHODS = (
    "check_health",
    "get_num_ongoing_requests",
    "handle_request(?:_[a-z_]+)?",
    "initialize_and_get_metadata",
    "is_allocated",
    "list_outbound_deployments",
    "perform_graceful_shutdown",
    "push_proxy_handle",
    "reconfigure",
    "record_routing_stats",
    "(?:reserve|release)_slot",
    "was_initialized",
    "_[a-z_]+",
)

# Regular expressions as RE2 reads them, to be matched against the whole label; none needs an escape in PromQL.
_METHOD = f"(?:[.](?:{'|'.join(METHODS)}))?"
_PROCESS = "ray::(?:SERVE_REPLICA::.*:)?ServeReplica"

ACTOR = "ServeReplica:([^:]*):(.+)"  # groups: application, deployment
PROCESS = f"{_PROCESS}:([^:]*):(.+?){_METHOD}"  # the same groups


def process(application: str = ".+", deployment: str = ".+") -> str:
    """The pattern of the `Component` of a deployment's replicas; both are regular expressions, as in a matcher."""
    return f"{_PROCESS}:({application}):({deployment}){_METHOD}"
