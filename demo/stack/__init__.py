"""Run Ray Serve and what watches it as local processes; the demo and the live tests both stand on this.

A component is one small function that returns a `Component`; adding one means adding it to a list. Processes are
mirakuru's: each leads a process group of its own, carries a mark in its environment, and is ended by these, so another
Ray on the machine is never touched (`ray stop` would kill it: it goes by keyword).
"""
