"""What one query of a Prometheus costs, as the server itself counts it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx
import psutil

from servescope.promql.durations import milliseconds

TIMEOUT_S = 150  # above the server's own two minutes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a query gave and what it cost.

    `samples` are those that the server says it touched, and `peak` those that it held at once; `seconds` what the
    engine took, `bytes` the answer's size before compression; `last` has the labels and the last value of each series.
    `touched` is what it really read, where that was asked (`Server.touched`).
    """

    error: str = ""
    samples: int = 0
    touched: int = 0
    peak: int = 0
    seconds: float = 0
    bytes: int = 0
    last: Sequence[tuple[Mapping[str, str], float]] = field(default=(), repr=False)

    @property
    def lines(self) -> int:
        """How many series the answer has."""
        return len(self.last)


@dataclass(frozen=True, kw_only=True)
class Subquery:
    """`(expression)[range:step] offset o`, or `@ end()`, which is evaluated once and not at each step."""

    expression: str
    range_s: int
    step_s: int
    offset_s: int
    fixed: bool


_SUBQUERY = re.compile(r"\)\[(\w+):(\w+)\](?:\s+offset\s+(\w+))?(\s*@\s*end\(\))?")


def subqueries(expression: str) -> list[Subquery]:
    """The outermost subqueries of a query in our form, an expression in parentheses with range and step."""
    found: list[Subquery] = []
    outside = len(expression)
    for match in reversed(list(_SUBQUERY.finditer(expression))):
        if match.start() >= outside:
            continue  # within the one before
        outside = _opening(expression, match.start())
        length, step, offset = (round(milliseconds(match[n] or "0s") / 1000) for n in (1, 2, 3))
        inner = expression[outside + 1 : match.start()]
        found.append(Subquery(expression=inner, range_s=length, step_s=step, offset_s=offset, fixed=bool(match[4])))
    return found


def picks(expression: str) -> list[str]:
    """The parts of a query that pick series by what they are over the whole range: our form of `topk`."""
    found = []
    for match in re.finditer(r"\band (?:on \([a-z_, ]+\) )?((?:topk|bottomk)\()", expression):
        depth, last = 1, match.end()
        while depth:
            depth += (expression[last] == "(") - (expression[last] == ")")
            last += 1
        if "@ end()" in (part := expression[match.start(1) : last]):
            found.append(part)
    return found


def _opening(text: str, closing: int) -> int:
    """The place of the parenthesis that one at `closing` closes; label values of ours have them in pairs."""
    depth = 0
    for place in range(closing, -1, -1):
        depth += (text[place] == ")") - (text[place] == "(")
        if depth == 0:
            return place
    raise ValueError(f"no opening parenthesis: {text}")


class Server:
    """A Prometheus that is asked one query at a time."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"})

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def version(self) -> str:
        """Such as 2.42.0."""
        told = self._client.get("/api/v1/status/buildinfo").json()["data"]["version"]
        return re.split(r"[+]", told)[0]

    def cpu_seconds(self) -> float:
        """What the server's process has used until now, to the hundredth."""
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def at(self, expression: str, when: int) -> Answer:
        """An instant query."""
        return self._ask("query", {"query": expression, "time": when})

    def over(self, expression: str, *, start: int, end: int, step: int) -> Answer:
        """A range query."""
        return self._ask("query_range", {"query": expression, "start": start, "end": end, "step": step})

    def touched(self, expression: str, counted: int, *, start: int, end: int, step: int) -> int:
        """The samples that a query over this time reads, of which the server counted so many.

        It counts nothing within a subquery; and what a query evaluates once, the `topk` at the end of a range, it
        counts at each step.
        """
        repeated = sum(self.at(part, end).samples for part in picks(expression))
        return counted - (end - start) // step * repeated + self.inside(expression, start=start, end=end)

    def inside(self, expression: str, *, start: int, end: int) -> int:
        """The samples within the subqueries of a query: each is asked as a range query over the time it looks at."""
        samples = 0
        for inner in subqueries(expression):
            first = end - inner.range_s if inner.fixed else start - inner.range_s - inner.offset_s
            last = end if inner.fixed else end - inner.offset_s
            first += -first % inner.step_s
            samples += self.over(inner.expression, start=first, end=last, step=inner.step_s).samples
            samples += self.inside(inner.expression, start=first, end=last)
        return samples

    def _ask(self, path: str, parameters: Mapping[str, Any]) -> Answer:
        response = self._client.post(f"/api/v1/{path}", data={**parameters, "stats": "all"})
        body = json.loads(response.content)
        if body["status"] != "success":
            return Answer(error=body["error"])
        data = body["data"]
        return Answer(
            samples=data["stats"]["samples"]["totalQueryableSamples"],
            peak=data["stats"]["samples"]["peakSamples"],
            seconds=data["stats"]["timings"]["evalTotalTime"],
            bytes=len(response.content),
            last=_last(data),
        )


def _last(data: Mapping[str, Any]) -> list[tuple[Mapping[str, str], float]]:
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    series = data["result"]
    return [(one["metric"], float((one.get("value") or one["values"][-1])[1])) for one in series]
