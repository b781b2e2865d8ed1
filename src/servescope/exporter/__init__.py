"""The Serve state exporter: state from Serve's REST API that Ray's metrics lack."""
