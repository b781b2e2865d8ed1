"""The drill: fault injection into a live Serve, to prove that each alert fires for its fault and no other does."""

SWITCHES = "DRILL_SWITCHES"  # the environment variable that names the directory of the applications' switches

# The one deployment of each application, named as Serve LLM names its deployments: alerts and panels must find it.
DEPLOYMENT = "LLMServer:qwen-v1.5"
