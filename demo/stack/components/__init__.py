"""The components that a stack can run: a function each, which returns a `Component`."""
