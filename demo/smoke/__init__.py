"""`make smoke`: drive a request through the running stack and find it in every backend, while there is time.

GRAFANA_URL, PROMETHEUS_URL, ALERTMANAGER_URL, SERVE_URL and RAY_URL say where else the published ports are, and
SMOKE_SECONDS how long to wait (300). `make demo` runs the same checks at its end.
"""
