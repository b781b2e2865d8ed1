"""`make smoke`: send a request through the running stack and find it in every backend, within a time limit.

GRAFANA_URL, PROMETHEUS_URL, ALERTMANAGER_URL, SERVE_URL and RAY_URL override the published ports, and SMOKE_SECONDS
the time limit (300). `make demo` runs the same checks at its end.
"""
