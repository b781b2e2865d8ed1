"""Tests against a live Ray Serve and a live Prometheus."""
