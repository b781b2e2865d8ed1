"""What several metrics of the catalogue have in common: in `appears`, `trap` or `needs`."""

from __future__ import annotations

# appears
EVENT_DRIVEN = "event-driven: expires 20 s after its last change"
AUTOSCALING_ONLY = "autoscaling deployments only"

# trap
FIRST_NON_ZERO = "Series first appear with a non-zero value, so increase() misses the first event; use promql.events."
BUCKET_GAP = "No bucket bound between 10 s and 60 s: quantiles of slow requests are interpolated across that gap."
GAUGE_THAT_GROWS = "Exported as a gauge although it only grows."

# needs, and where it says the same, appears
A_GPU = "a GPU"
HAPROXY_MODE = "HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1)"
INGRESS_ROUTER = "HAProxy mode with an ingress request router"
