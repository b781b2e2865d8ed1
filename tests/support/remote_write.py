"""Samples for any store, with the stale markers that a scrape leaves: Prometheus' remote write, version 1."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import httpx

# https://prometheus.io/docs/specs/prw/remote_write_spec/
STALE = struct.pack("<Q", 0x7FF0000000000002)
_HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}

Values = Sequence[tuple[int, float | None]]


def push(url: str, series: Iterable[tuple[Mapping[str, str], Values]]) -> None:
    """Write series to the address of a store's receiver.

    Each is its labels, `__name__` among them, and (unix seconds, value) for each scrape. The first scrape that did not
    find a series (None) marks it stale, as Prometheus does.

    Raises:
        httpx.HTTPStatusError: the store refuses them.
    """
    body = b"".join(_field(1, _series(labels, values)) for labels, values in series)
    httpx.post(url, content=_snappy(body), headers=_HEADERS, timeout=60, trust_env=False).raise_for_status()


def _series(labels: Mapping[str, str], values: Values) -> bytes:
    pairs = (_field(1, name.encode()) + _field(2, value.encode()) for name, value in sorted(labels.items()))
    return b"".join(_field(1, pair) for pair in pairs) + b"".join(_field(2, sample) for sample in _samples(values))


def _samples(values: Values) -> Iterable[bytes]:
    there = False
    for at, value in values:
        if value is not None or there:
            number = STALE if value is None else struct.pack("<d", value)
            yield b"\x09" + number + b"\x10" + _varint(at * 1000)
        there = value is not None


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in protobuf's encoding."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _snappy(content: bytes) -> bytes:
    """Snappy's block format, which may hold all of it uncompressed: one literal, with its length in four bytes."""
    return _varint(len(content)) + b"\xfc" + struct.pack("<I", len(content) - 1) + content
