"""Observability for Ray Serve: dashboards, rules, logs and traces, proven against a live Serve."""
