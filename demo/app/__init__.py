"""The demo's Serve applications."""
