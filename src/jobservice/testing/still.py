"""A service that comes to rest: an event loop that knows when nothing is left to do.

Everything runs in the thread of the loop, one thing after the other, in an order that does not depend
on the timing of threads: what would be done in another thread is done at once.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from jobservice.store.sqlite.writer import Writer
from jobservice.store.verbs.transaction import Answer, Item, Verb

_Ts = TypeVarTuple("_Ts")

QUIET_ROUNDS = 2
"""After so many rounds of the loop in which nobody did anything, it is at rest."""
MOST_ROUNDS = 1_000_000


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop that counts what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._asked += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._asked += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # the future is done already
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[..., Any],
        *args: Any,
    ) -> "asyncio.Future[Any]":
        """Call the function now, in this thread."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it raises is its caller's
            future.set_exception(error)
        return future

    async def rest(self) -> None:
        """Until there is nothing left to do before time passes.

        Raises:
            RuntimeError: that never happens.
        """
        quiet = 0
        for _ in range(MOST_ROUNDS):
            before = self._asked
            await asyncio.sleep(0)  # which asks for one call: of this coroutine
            quiet = quiet + 1 if self._asked == before + 1 else 0
            if quiet == QUIET_ROUNDS:
                return
        raise RuntimeError("The service does not come to rest: something in it goes in a circle.")


class StillWriter(Writer):
    """Commits each call at once, in the thread of the loop."""

    async def run(self, verb: Verb[Item, Answer], item: Item) -> Answer:
        call = self._group.add(verb, item)
        batch = self._group.take([call])
        self._group.answer(batch, self._commit(batch))
        self._checkpoint_if_long()
        return await call.future
