"""The ports of a stack, and its listen address."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Every port of the stack; the defaults are the programs' own."""

    serve: int = 8000
    dashboard: int = 8265
    gcs: int = 6379
    client_server: int = 10001
    object_manager: int = 10002
    node_manager: int = 10003
    runtime_env_agent: int = 10004
    dashboard_agent: int = 52365
    dashboard_agent_grpc: int = 52366
    metrics: int = 8080
    autoscaler_metrics: int = 44217
    dashboard_metrics: int = 44227
    loki: int = 3100
    loki_grpc: int = 9096
    log_agent: int = 2020
    log_events: int = 2021
    log_health: int = 13134
    worker_min: int = 10100
    worker_max: int = 10999
    prometheus: int = 9090
    alertmanager: int = 9093
    exporter: int = 9475
    blackbox: int = 9115
    otlp_grpc: int = 4317
    otlp_http: int = 4318
    span_metrics: int = 8889
    collector_metrics: int = 8888
    collector_health: int = 13133
    preview: int = 9470

    @staticmethod
    def from_base(base: int) -> Ports:
        """A separate set: one thousand ports starting at `base`, workers in the upper part."""
        names = [name for name in Ports.__dataclass_fields__ if not name.startswith("worker")]
        return Ports(**{name: base + i for i, name in enumerate(names)}, worker_min=base + 100, worker_max=base + 999)


DEFAULT_PORTS = Ports()
