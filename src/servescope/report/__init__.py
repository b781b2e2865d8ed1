"""Dashboards as HTML pages: the snapshot and the preview."""
