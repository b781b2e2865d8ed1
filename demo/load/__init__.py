"""The demo's load, for Locust."""
