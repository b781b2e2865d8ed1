"""Prometheus rules, generated from Python objects."""
