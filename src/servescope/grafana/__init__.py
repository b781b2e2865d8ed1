"""Grafana's own rules, written once: panels, layout, variables, units, templating."""
