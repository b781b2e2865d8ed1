"""The components of a stack, one per file: a function from the `Run` to a `Component`.

A new one gets a file here, its ports in `demo.stack.ports`, and an entry in `COMPONENTS` of `demo.local`.
"""
