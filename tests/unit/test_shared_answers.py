"""Answers that readers share: asked once, four at a time, no reader behind another, failures not kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from servescope.clients.shared import SharedAnswers

PATIENCE_S = 30


def test_what_several_ask_together_is_asked_once():
    shared = SharedAnswers(at_once=4, kept_s=60)
    started, go = threading.Event(), threading.Event()
    asked = []

    def slow() -> int:
        asked.append(1)
        started.set()
        assert go.wait(PATIENCE_S)
        return 7

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.get, "a", slow)
        assert started.wait(PATIENCE_S)
        others = [pool.submit(shared.get, "a", slow) for _ in range(2)]
        go.set()
        assert [one.result() for one in (first, *others)] == [7, 7, 7]
    assert asked == [1]


def test_nobody_waits_for_a_question_of_somebody_else():
    shared = SharedAnswers(at_once=2, kept_s=60)
    started, go = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert go.wait(PATIENCE_S)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shared.get, "slow", slow)
        assert started.wait(PATIENCE_S)
        assert shared.get("quick", lambda: "quick") == "quick"
        assert not waiting.done()
        go.set()
        assert waiting.result() == "slow"


def test_no_more_than_so_many_are_on_their_way():
    shared = SharedAnswers(at_once=2, kept_s=60)
    lock, full = threading.Lock(), threading.Barrier(2, timeout=PATIENCE_S)
    running: list[int] = []
    most: list[int] = []

    def ask() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        full.wait()  # two are here together each time, and never a third
        with lock:
            running.pop()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(shared.get, number, ask) for number in range(6)]:
            done.result()
    assert max(most) == 2


def test_a_failure_is_not_kept():
    shared = SharedAnswers(at_once=2, kept_s=60)

    def fail() -> int:
        raise ValueError("its time was up")

    with pytest.raises(ValueError, match="its time was up"):
        shared.get("a", fail)
    assert shared.get("a", lambda: 1) == 1


def test_an_old_answer_is_asked_again():
    shared = SharedAnswers(at_once=2, kept_s=0)
    assert [shared.get("a", lambda value=value: value) for value in (1, 2)] == [1, 2]
