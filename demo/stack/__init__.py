"""Run Ray Serve and what watches it as local processes; the demo and the live tests both stand on this.

A `Run` says where and how, a component (components/) is one thing to run, and a `Stack` (supervisor.py) runs several
side by side. Processes are mirakuru's: each leads a process group of its own, carries a mark in its environment, and is
ended by these, so another Ray on the machine is never touched (`ray stop` would kill it: it goes by keyword).
"""
