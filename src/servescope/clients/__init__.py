"""Clients of Prometheus, Loki, Tempo and Ray, and readers of Serve's logs and the Collector's trace files."""
