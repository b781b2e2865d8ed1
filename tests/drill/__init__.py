"""The drill: a live Serve, broken on purpose, to prove that each alert fires for its fault and no other does."""

SWITCHES = "DRILL_SWITCHES"  # the environment variable that names the folder of the applications' switches
