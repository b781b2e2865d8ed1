"""The Serve state exporter: what Serve's REST API knows and Ray's metrics do not."""
