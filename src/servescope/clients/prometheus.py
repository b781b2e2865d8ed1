"""A client of Prometheus' HTTP API, for reading only."""

from __future__ import annotations

from typing import Any, ClassVar

from servescope.clients.http import HttpApi
from servescope.errors import ServescopeError


class Prometheus:
    """A small client of Prometheus' HTTP API, for reading only.

    Every method raises ServescopeError with one line when the server is unreachable or rejects the query.
    """

    program: ClassVar[str] = "Prometheus"  # the program's name in those lines

    def __init__(self, url: str, timeout_s: float = 30.0, *, trust_env: bool = True) -> None:
        self._api = HttpApi(url, self.program, timeout_s=timeout_s, trust_env=trust_env)
        self.url = self._api.url

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query. Returns Prometheus' vector: `[{"metric": {...}, "value": [unix seconds, "text"]}]`."""
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        result = self._get("/api/v1/query", parameters)
        if result["resultType"] == "scalar":
            return [{"metric": {}, "value": result["result"]}]
        series: list[dict[str, Any]] = result["result"]
        return series

    def query_range(self, expression: str, *, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """A range query. Returns Prometheus' matrix: `[{"metric": {...}, "values": [[unix seconds, "text"], ...]}]`."""
        parameters = {
            "query": expression,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step_s:g}",
        }
        series: list[dict[str, Any]] = self._get("/api/v1/query_range", parameters)["result"]
        return series

    def label_values(self, label: str, selector: str | None, *, start: float, end: float) -> list[str]:
        """The values of a label among the series that a selector matches in a time range, sorted."""
        parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        values: list[str] = self._get(f"/api/v1/label/{label}/values", parameters)
        return sorted(values)

    def alerting_rules(self) -> dict[str, dict[str, str]]:
        """The annotations of every alerting rule that the server has loaded, by the alert's name."""
        groups = self._get("/api/v1/rules", {"type": "alert"})["groups"]
        return {rule["name"]: rule.get("annotations", {}) for group in groups for rule in group["rules"]}

    def version(self) -> str:
        """The server's own version; "" if it reports none, as other servers with the same API may do."""
        try:
            return str(self._get("/api/v1/status/buildinfo", {}).get("version", ""))
        except ServescopeError:
            return ""

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        # POST keeps long expressions out of the URL; the label endpoint supports GET only.
        ask = self._api.post_form if path.startswith("/api/v1/query") else self._api.get
        response = ask(path, parameters)
        try:
            body = response.json()
        except ValueError as error:
            raise self._api.unexpected(response.status_code) from error
        if not isinstance(body, dict) or body.get("status") != "success":
            reason = body.get("error", "no reason given") if isinstance(body, dict) else "not a JSON object"
            raise self._api.refused(reason)
        return body["data"]
