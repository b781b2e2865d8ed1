"""Service level objectives: reading them, and their recording rules and burn-rate alerts."""
