"""The demo: a Ray Serve application, its load, and the local processes that watch it."""
