"""Observability for Ray Serve: dashboards, rules, logs and traces, tested against a live Serve."""

# The one place of the version: hatch reads it for the package, and it is there in a checkout that is not installed.
__version__ = "0.1.0"
