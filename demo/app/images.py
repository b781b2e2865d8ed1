"""Pictures of known words, drawn from a seed: what the load sends, and the expected responses."""

from __future__ import annotations

import random

import cv2
import numpy as np

WORDS = (
    "apple",
    "bridge",
    "candle",
    "dragon",
    "engine",
    "forest",
    "garden",
    "harbor",
    "island",
    "jungle",
    "kitchen",
    "ladder",
    "market",
    "number",
    "orange",
    "planet",
    "queen",
    "river",
    "silver",
    "tower",
    "under",
    "valley",
    "window",
    "yellow",
    "zebra",
    "metric",
    "signal",
    "trace",
    "panel",
    "alert",
)


def words(chance: random.Random, lines: int = 1) -> list[str]:
    """A few words for each line."""
    return [" ".join(chance.sample(WORDS, 2)) for _ in range(lines)]


def draw(lines: list[str]) -> bytes:
    """A PNG with the lines in black on white, 320 pixels wide, 48 high for each line."""
    canvas = np.full((48 * len(lines) + 16, 320, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        position = (14, 48 * number + 42)
        cv2.putText(canvas, line, position, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    done, data = cv2.imencode(".png", canvas)
    assert done
    return data.tobytes()


def same_text(found: list[str], expected: list[str]) -> bool:
    """Whether two readings match, ignoring spaces and case, which recognition may lose."""
    return ["".join(line.lower().split()) for line in found] == ["".join(line.lower().split()) for line in expected]
