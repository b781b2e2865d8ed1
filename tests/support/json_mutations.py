"""Random JSON, and documents that differ from a good one in a few places, as those of other programs do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**30, 10**400, 1e300, 5e-324]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "\ud800", "\x00", "now-1h", "(", "${x:nothing}", "1d"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one to three members deleted, replaced or repeated, at any depth."""
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        above: Any = None
        key: Any = None
        here: Any = result
        while isinstance(here, (dict, list)) and here and (above is None or draw(st.integers(0, 4))):
            above = here
            key = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
            here = here[key]
        if above is None:
            return draw(VALUES)
        change = draw(st.sampled_from(["delete", "replace", "replace", "repeat"]))
        if change == "delete":
            del above[key]
        elif change == "repeat" and isinstance(above, list):
            above.append(copy.deepcopy(here))
        else:
            above[key] = draw(VALUES)
    return result


OTHER_TYPES: tuple[Any, ...] = (None, True, -1, 10**400, "x", [1], {"a": 1})


def each_replaced(document: Any, with_: tuple[Any, ...] = OTHER_TYPES) -> Iterator[tuple[str, Any]]:
    """The document with one member replaced by a value of another type: its place, and the whole.

    Members of a list count as one place: the first that has a path stands for the others.
    """
    seen: set[tuple[Any, ...]] = set()
    for path in _paths(document, ()):
        place = tuple("*" if isinstance(key, int) else key for key in path)
        if place in seen:
            continue
        seen.add(place)
        for value in with_:
            result = copy.deepcopy(document)
            above = result
            for key in path[:-1]:
                above = above[key]
            above[path[-1]] = value
            yield f"{'.'.join(place)} = {str(value)[:20]!r}", result


def _paths(document: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    members = document.items() if isinstance(document, dict) else enumerate(document)
    for key, held in members:
        yield (*above, key)
        if isinstance(held, (dict, list)):
            yield from _paths(held, (*above, key))
