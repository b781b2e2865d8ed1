"""What the truth tests' application and its load both name; it imports nothing, for Ray's own Python loads it too."""

from __future__ import annotations

# Named as Serve LLM names its deployments, and as people name theirs; serve_config.yaml has the same.
WORKER = "LLMServer:qwen-0_5b"
TALK = "chat/talk v1.5"

SESSION_S = 3  # how long each WebSocket session lasts
