"""Waiting for facts: the one place in tests where time passes by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_S = 0.01


def wait_until(look: Callable[[], T], *, timeout_s: float = 30.0, what: str = "") -> T:
    """The first true answer of `look`; asks again until then.

    Raises:
        AssertionError: there was none in time; it says what was awaited and the last answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            awaited = what or getattr(look, "__name__", "a fact")
            raise AssertionError(f"{awaited} did not come in {timeout_s} s; last: {answer!r}")
        time.sleep(LOOK_EVERY_S)
