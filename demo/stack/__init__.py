"""Run Ray Serve and its monitoring as local processes, for the demo and the live tests.

A `Run` says where and how, a component (components/) is one process, and a `Stack` (supervisor.py) runs several side by
side. Processes are mirakuru's: each leads its own process group, has a mark in its environment, and is stopped by
these, so another Ray on the machine is never touched (`ray stop`, which matches by keyword, would kill it).
"""
