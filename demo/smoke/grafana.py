"""A client of Grafana that queries its data sources as a panel does: Prometheus by queries, others by data frames."""

from __future__ import annotations

import time
from typing import Any

from servescope.clients.prometheus import Prometheus
from servescope.errors import ServescopeError


class ThroughGrafana(Prometheus):
    """Prometheus as a panel sees it: by Grafana's own query API."""

    program = "Grafana"

    def __init__(self, url: str, uid: str = "prometheus") -> None:
        super().__init__(url, trust_env=False)
        self._uid = uid

    def __enter__(self) -> ThroughGrafana:
        return self

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query, in Prometheus' shape."""
        end = time.time() if at is None else at
        series = self._ask({"expr": expression, "instant": True, "range": False}, start=end - 60, end=end)
        return [{"metric": one["metric"], "value": one["values"][-1]} for one in series if one["values"]]

    def query_range(self, expression: str, *, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """A range query, in Prometheus' shape."""
        return self._ask(
            {"expr": expression, "range": True, "interval": f"{step_s:g}s"}, start=start, end=end, step_s=step_s
        )

    def label_values(self, label: str, selector: str | None, *, start: float, end: float) -> list[str]:
        """The values of a label, as a variable of a dashboard gets them."""
        parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        path = f"/api/datasources/uid/{self._uid}/resources/api/v1/label/{label}/values"
        values: list[str] = self._get(path, parameters)
        return sorted(values)

    def frames(
        self, source: dict[str, str], query: dict[str, Any], *, start: float, end: float, step_s: float = 15
    ) -> list[dict[str, Any]]:
        """The data frames of a query to any data source.

        Raises:
            ServescopeError: Grafana is unreachable or rejects the query.
        """
        body = {
            "from": str(round(start * 1000)),
            "to": str(round(end * 1000)),
            "queries": [
                {
                    "refId": "A",
                    "datasource": source,
                    "intervalMs": round(step_s * 1000),
                    "maxDataPoints": 10000,
                    **query,
                }
            ],
        }
        try:
            answer = self._api.post_json("/api/ds/query", body).json()["results"]["A"]
        except (ValueError, KeyError) as error:
            raise ServescopeError(f"{self.url}: Grafana is unreachable ({error or type(error).__name__})") from error
        if "error" in answer:
            raise ServescopeError(f"{self.url}: Grafana rejected the query: {answer['error']}")
        found: list[dict[str, Any]] = answer.get("frames", [])
        return found

    def _ask(self, query: dict[str, Any], *, start: float, end: float, step_s: float = 15) -> list[dict[str, Any]]:
        frames = self.frames({"type": "prometheus", "uid": self._uid}, query, start=start, end=end, step_s=step_s)
        return [series for frame in frames for series in frame_series(frame)]


def frame_series(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The series in a data frame of Grafana, in Prometheus' shape: columns of times in milliseconds and of values."""
    columns = list(zip(frame["schema"]["fields"], frame["data"]["values"], strict=True))
    times: list[float] = next((values for schema, values in columns if schema["type"] == "time"), [])
    return [
        {
            "metric": schema.get("labels", {}),
            # JSON has no NaN: Grafana sends null.
            "values": [
                [at / 1000, "NaN" if value is None else str(value)] for at, value in zip(times, values, strict=True)
            ],
        }
        for schema, values in columns
        if schema["type"] == "number"
    ]
