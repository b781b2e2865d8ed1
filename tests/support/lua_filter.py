"""For single log records, without a running agent: fluentbit/ray.lua under the LuaJIT that Fluent Bit has."""

from __future__ import annotations

from typing import Any

from servescope.clients import ray_lua
from servescope.clients.ray_lua import FILE, LINE, parsed, tag_of
from tests.support.log_cases import iso, session_of

__all__ = ["FILE", "LINE", "Lua", "parsed", "split_records", "tag_of"]


def split_records(text: str, parser: str) -> list[str]:
    """The records of a text by one of Fluent Bit's multiline parsers."""
    return list(ray_lua.split_records(text.removesuffix("\n").split("\n"), ray_lua.multiline_rules(parser)))


class Lua(ray_lua.Lua):
    """fluentbit/ray.lua as one run of Fluent Bit has it: what it learns from a record holds for the next ones."""

    def read(
        self, text: str, file: str, session: str = session_of(0), *, function: str = "ray"
    ) -> list[dict[str, Any]]:
        """The records of one file below logs/."""
        path = f"/tmp/ray/{session}/logs/{file}"
        lines = text.removesuffix("\n").split("\n")
        return [
            record | ({"time": iso(time_ns)} if time_ns else {})
            for time_ns, record in self.records(lines, path, function=function)
        ]
