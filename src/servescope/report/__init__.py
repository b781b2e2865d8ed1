"""What the panels of dashboards show, as pages: the snapshot and the preview."""
