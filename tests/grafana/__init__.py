"""What Grafana makes of the dashboards: its own published code is the oracle."""
