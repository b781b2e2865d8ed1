"""A client of Prometheus' HTTP API, for reading only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

from servescope.clients.access import PUBLIC, Access
from servescope.clients.http import HttpApi, Unavailable
from servescope.clients.shared import SharedAnswers
from servescope.errors import ServescopeError


@dataclass
class Round:
    """What came of the queries for one page: whether any got an answer, and why answers may be incomplete.

    `refused` is why the server could not be asked at all, where the first query found that.
    """

    answered: bool = False
    refused: str = ""
    warnings: dict[str, None] = field(default_factory=dict)  # a set that keeps the order


class Prometheus:
    """A small client of Prometheus' HTTP API, for reading only.

    Every method raises ServescopeError with one line when the server is unreachable or rejects the query.
    """

    program: ClassVar[str] = "Prometheus"  # the program's name in those lines

    def __init__(self, url: str, timeout_s: float = 30.0, *, trust_env: bool = True, access: Access = PUBLIC) -> None:
        self._api = HttpApi(url, self.program, timeout_s=timeout_s, trust_env=trust_env, access=access)
        self.url = self._api.url
        self._round: Round | None = None
        self._shared: SharedAnswers | None = None

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def for_reader(self, shared: SharedAnswers) -> Prometheus:
        """The same server over the same connections, with rounds of its own and answers that readers share."""
        own = copy(self)
        own._api = copy(self._api)
        own._shared = shared
        return own

    @contextmanager
    def round(self, limit_s: float) -> Iterator[Round]:
        """Bounds the queries of one page, from several threads, to a time for all of them; one round after the other.

        Where the server cannot be reached or denies access from the first query on, the other queries are not sent: a
        wrong password must not be tried 300 times.
        """
        self._round = round_ = Round()
        self._api.deadline = time.monotonic() + limit_s
        try:
            yield round_
        finally:
            self._api.deadline = None
            self._round = None

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query. Returns Prometheus' vector: `[{"metric": {...}, "value": [unix seconds, "text"]}]`."""
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        series: list[dict[str, Any]] = []
        data = self._get("/api/v1/query", parameters)
        with self._api.reading():
            scalar = data["resultType"] == "scalar"
            found = [{"metric": {}, "value": data["result"]}] if scalar else data["result"]
            series = [
                {"metric": _labels(one), "value": _point(one["value"])} for one in found if "histogram" not in one
            ]
        return series

    def query_range(self, expression: str, *, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """A range query. Returns Prometheus' matrix: `[{"metric": {...}, "values": [[unix seconds, "text"], ...]}]`."""
        parameters = {
            "query": expression,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step_s:g}",
        }
        series: list[dict[str, Any]] = []
        data = self._get("/api/v1/query_range", parameters)
        with self._api.reading():
            # A series of native histograms has no values.
            series = [
                {"metric": _labels(one), "values": [_point(point) for point in one.get("values", ())]}
                for one in data["result"]
            ]
        return series

    def label_values(self, label: str, selector: str | None, *, start: float, end: float) -> list[str]:
        """The values of a label among the series that a selector matches in a time range, sorted."""
        parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        values: list[str] = []
        data = self._get(f"/api/v1/label/{label}/values", parameters)
        with self._api.reading():
            if not isinstance(data, list | None):
                raise TypeError("not a list of values")
            values = sorted(str(value) for value in data or ())
        return values

    def alerting_rules(self) -> dict[str, dict[str, str]]:
        """The annotations of every alerting rule that the server has loaded, by the alert's name."""
        rules: dict[str, dict[str, str]] = {}
        data = self._get("/api/v1/rules", {"type": "alert"})
        with self._api.reading():
            # A store without rules has no groups, or null; an empty list of rules may be null too.
            rules = {
                rule["name"]: {str(name): str(text) for name, text in (rule.get("annotations") or {}).items()}
                for group in data["groups"] or ()
                for rule in group["rules"] or ()
            }
        return rules

    def program_and_version(self) -> tuple[str, str]:
        """The program that answers, as its build information names it, and its version; "" where it reports none.

        Mimir and Cortex name themselves. VictoriaMetrics and others report the version of a Prometheus whose API they
        have, and nothing of a build.
        """
        try:
            found = self._get("/api/v1/status/buildinfo", {})
        except ServescopeError:
            found = {}
        if not isinstance(found, dict):
            found = {}
        version = str(found.get("version") or "")
        if found.get("application"):
            return str(found["application"]), version
        return ("Prometheus", version) if found.get("revision") else ("Prometheus-compatible store", "")

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        round_ = self._round
        if round_ is None:
            return self._body(path, parameters).get("data")
        if round_.refused:
            raise Unavailable(round_.refused)
        try:
            body = self._body(path, parameters)
        except Unavailable as error:
            if not round_.answered:
                round_.refused = str(error)
            raise
        round_.answered = True
        round_.warnings |= dict.fromkeys(self._warnings(body))
        return body.get("data")

    def _warnings(self, body: dict[str, Any]) -> Iterator[str]:
        """Why an answer may be incomplete, as Thanos, Mimir and VictoriaMetrics report it."""
        warnings = body.get("warnings")
        for warning in warnings if isinstance(warnings, list) else ():
            # Prometheus 3 also remarks on expressions ("PromQL warning: ..."): nothing is missing then.
            if not str(warning).startswith("PromQL"):
                yield self._api.redacted(" ".join(str(warning).split()))[:200]
        if body.get("isPartial"):
            yield "some storage nodes did not answer (isPartial)"

    def _body(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        if self._shared is None:
            return self._asked(path, parameters)
        question = (path, *sorted(parameters.items()))
        body: dict[str, Any] = self._shared.get(question, lambda: self._asked(path, parameters))
        return body

    def _asked(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        # POST keeps long expressions out of the URL; the label endpoint supports GET only.
        ask = self._api.post_form if path.startswith("/api/v1/query") else self._api.get
        response = ask(path, parameters)
        try:
            body = response.json()
        except ValueError as error:
            raise self._api.unexpected(response.status_code) from error
        if not isinstance(body, dict) or body.get("status") != "success":
            reason = body.get("error", "no reason given") if isinstance(body, dict) else "not a JSON object"
            raise self._api.refused(" ".join(str(reason).split())[:500])
        return body


def _labels(series: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in series["metric"].items()}


def _point(point: Any) -> list[Any]:
    """`[unix seconds, "text"]`, whose text is a number."""
    at, text = point
    float(text)
    return [float(at), text]
