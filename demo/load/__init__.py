"""The demo's load, for Locust: mix is that of `make demo` and `make up`, steps that of `make steps`."""
