"""Rows that several dashboards share."""
