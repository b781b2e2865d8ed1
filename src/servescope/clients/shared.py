"""Answers that several readers share: what one has just asked is not asked again, and not too much at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class SharedAnswers:
    """Answers by what was asked, each for `kept_s` seconds; at most `at_once` questions are on their way together.

    Who asks what somebody else is asking waits for that answer. A failure is not kept: it may be of one reader alone,
    whose time was up. Used from several threads.
    """

    def __init__(self, *, at_once: int, kept_s: float) -> None:
        self._gate = threading.BoundedSemaphore(at_once)
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._answers: dict[Any, tuple[float, Future[Any]]] = {}

    def get(self, question: Any, ask: Callable[[], Any]) -> Any:
        """The answer to a question (hashable), from `ask` where there is none that is young enough."""
        now = time.monotonic()
        with self._lock:
            self._answers = {key: held for key, held in self._answers.items() if now - held[0] < self._kept_s}
            _, pending = self._answers.get(question, (now, None))
            mine: Future[Any] = Future()
            if pending is None:
                self._answers[question] = (now, mine)
        if pending is not None:
            try:
                return pending.result()
            except Exception:
                return self._asked(ask)
        try:
            answer = self._asked(ask)
        except BaseException as error:
            with self._lock:
                self._answers.pop(question, None)
            mine.set_exception(error)
            raise
        mine.set_result(answer)
        return answer

    def _asked(self, ask: Callable[[], Any]) -> Any:
        with self._gate:
            return ask()
