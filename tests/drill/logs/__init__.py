"""The drill of the log agents: `python -m tests.drill.logs`, see __main__.py."""
