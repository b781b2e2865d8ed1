"""The alerts in Alertmanager, from the start of a world to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

HIDDEN = ("alertname", "severity", "ray_io_cluster")


@dataclass(kw_only=True)
class Seen:
    """One alert with one set of labels: when it came, and when it was last there (monotonic seconds)."""

    alert: str
    labels: Mapping[str, str]
    first: float
    last: float
    begun: list[float] = field(default_factory=list)  # each time that it fired again

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(self.labels.items()) if name not in HIDDEN)
        return f"{self.alert}{{{labels}}}"


class Watch:
    """Polls Alertmanager every second in a thread of its own; a context manager."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._url = f"{url}/api/v2/alerts?active=true&inhibited=true&silenced=true&unprocessed=true"
        self._say = say
        self._seen: dict[frozenset[tuple[str, str]], Seen] = {}
        self._now: set[frozenset[tuple[str, str]]] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(10)

    def seen(self) -> list[Seen]:
        """Every alert so far."""
        with self._lock:
            return list(self._seen.values())

    def firing(self) -> list[Seen]:
        """Those that fire now."""
        with self._lock:
            return [self._seen[key] for key in self._now]

    def _work(self) -> None:
        with httpx.Client(timeout=5) as client:
            while not self._done.wait(1):
                try:
                    answer = client.get(self._url)
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    self._say(f"Alertmanager: {type(error).__name__}")
                    continue
                self._take([alert["labels"] for alert in answer.json()])

    def _take(self, alerts: list[dict[str, str]]) -> None:
        at = time.monotonic()
        now = {frozenset(labels.items()): labels for labels in alerts}
        with self._lock:
            for key, labels in now.items():
                seen = self._seen.setdefault(key, Seen(alert=labels["alertname"], labels=labels, first=at, last=at))
                if key not in self._now:
                    seen.begun.append(at)
                    self._say(f"fires: {seen}")
                seen.last = at
            for key in self._now - set(now):
                self._say(f"ended: {self._seen[key]}")
            self._now = set(now)
