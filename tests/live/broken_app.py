"""An application that cannot start."""

from __future__ import annotations

from ray import serve


@serve.deployment
class Broken:
    """Fails as one whose model is not there."""

    def __init__(self) -> None:
        raise FileNotFoundError("weights.bin is missing")


app = Broken.bind()
