"""What reads live backends and files: Prometheus, Loki, Tempo, Serve's logs, the Collector's trace files."""
