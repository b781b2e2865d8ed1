"""The components that a stack can run, one a file: a function from the `Run` to a `Component`.

Another one gets a file here, its ports in `demo.stack.ports`, and its place among `COMPONENTS` in `demo.local`.
"""
