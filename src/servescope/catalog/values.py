"""What numbers in Ray's metrics mean: status codes, and the bounds of histogram buckets."""

from __future__ import annotations

APPLICATION_STATUS = {
    0: "UNKNOWN",
    1: "DEPLOY_FAILED",
    2: "UNHEALTHY",
    3: "NOT_STARTED",
    4: "DELETING",
    5: "DEPLOYING",
    6: "RUNNING",
}

DEPLOYMENT_STATUS = {
    0: "UNKNOWN",
    1: "DEPLOY_FAILED",
    2: "UNHEALTHY",
    3: "UPDATING",
    4: "UPSCALING",
    5: "DOWNSCALING",
    6: "HEALTHY",
}

PROXY_STATUS = {1: "STARTING", 2: "HEALTHY", 3: "UNHEALTHY", 4: "DRAINING", 5: "DRAINED"}

# Bounds of Ray's histograms by default; RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS changes the first.
LATENCY_BUCKETS_MS = (
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    300,
    400,
    500,
    1000,
    2000,
    5000,
    10000,
    60000,
    120000,
    300000,
    600000,
)

STARTUP_BUCKETS_MS = (5, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 240000)
