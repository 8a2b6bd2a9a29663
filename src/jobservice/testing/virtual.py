"""A whole service in virtual time: a month of jobs in a second, by the code that runs in production.

The server, the engine, the worker, the store and the API are the real ones. Made up are only the clock,
which stands still until it is moved, and the executor, whose jobs do what a script says. Time goes from
one due thing to the next, and the service comes to rest in between, so that everything happens at
exactly its instant and two runs with the same seed are the same to the last event.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from jobservice.client.calls import JobRef, job_id_of
from jobservice.client.sync import Client
from jobservice.client.values import Length
from jobservice.config import Settings
from jobservice.errors import DeadlineExceeded
from jobservice.model.event import Event
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL
from jobservice.model.spec import DEFAULT_TENANT
from jobservice.server.service import Service
from jobservice.store.port import JobKey
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.behaviour import SUCCEEDS, ActingExecutor, Script
from jobservice.testing.behaviour import Behaviour as Behaviour
from jobservice.testing.clock import START, JumpClock
from jobservice.testing.still import StillLoop, StillWriter

T = TypeVar("T")
LEASE = dt.timedelta(hours=1)
"""Longer than in production, because each extension of a lease is a stop of the clock."""
POLL = dt.timedelta(days=1)
"""Rare, because each poll is a stop of the clock, and no hint is lost here."""
LONGEST_WAIT = dt.timedelta(days=366)
"""How far a wait without a timeout moves the clock."""
WORKER_ID = "virtual"
CLOSED_S = 30.0
PAGE = 500


class VirtualService:
    """A service whose time is moved by hand. Use it in a `with` block, from one thread.

    Args:
        script: How jobs behave; left out, each succeeds at once. A function is called in the thread
            of the service, and must not use the service itself.
        start: The instant at which it begins, aware.
        seed: Of everything that is left to chance.
        slots: How many attempts run at once.
        lease: How long a lease on an attempt holds without being extended.
        poll: How often is looked for what no hint tells of and no time is known of.
    """

    client: Client
    """The SDK's own client, whose calls return once the service is at rest, and whose `wait` and
    `as_completed` move the clock."""

    def __init__(
        self,
        script: Script = SUCCEEDS,
        *,
        start: dt.datetime = START,
        seed: int = 0,
        slots: int = 100,
        lease: dt.timedelta = LEASE,
        poll: dt.timedelta = POLL,
    ) -> None:
        if start.tzinfo is None:
            raise ValueError("The start must be aware, as datetime(2030, 1, 1, tzinfo=UTC) is.")
        self._clock = JumpClock(start.astimezone(dt.UTC))
        self._random = random.Random(seed)  # noqa: S311 - it is to be the same every time
        self._executor = ActingExecutor(self._clock, script)
        self._slots = slots
        self._lease = lease
        self._poll = poll
        self._closing = contextlib.ExitStack()
        self.steps = 0
        """How often the clock has stopped."""

    # --- time ---------------------------------------------------------------------------------

    @property
    def now(self) -> dt.datetime:
        """The virtual time."""
        return self._clock.now()

    def advance(self, by: dt.timedelta) -> None:
        """Let so much time pass, with everything that is due in it."""
        self.advance_to(self.now + by)

    def advance_to(self, instant: dt.datetime) -> None:
        """Let time pass until then.

        Raises:
            ValueError: that was before now.
        """
        if instant < self.now:
            raise ValueError(f"{instant} is over; it is {self.now}.")
        self._do(self._advance_to(instant))

    def settle(self) -> None:
        """Until nothing is left to do before time passes; needed after calls of other clients."""
        self._do(self._advance_to(self.now))

    def until_final(self, job_ids: Sequence[str], limit: dt.datetime) -> list[str]:
        """Let time pass until some of these jobs are final or gone, and return those.

        None of them where time has come to `limit`.
        """
        return self._do(self._until_final(job_ids, limit))

    # --- what users see -----------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"unix:{self._settings.socket_path}"

    def jobs(self) -> list[Job]:
        """All jobs as they are, the oldest first."""
        return list(self.client.list())[::-1]

    def events(self, job: JobRef | None = None) -> list[Event]:
        """Everything that happened, in order; or what happened to one job."""
        job_id = None if job is None else job_id_of(job)
        events = self._do(self._events())
        return [event for event in events if job_id in {None, event.job_id}]

    # --- trouble ------------------------------------------------------------------------------

    def restart(self, *, after: dt.timedelta = dt.timedelta()) -> None:
        """Take the service down, let so much time pass, and start it again; jobs run on."""
        self._do(self._stop())
        self._do(self._pass_alone(self.now + after))
        self._do(self._start())
        self.settle()

    def lose_runner(self) -> None:
        """The runner dies with all that it ran; its successor says so at once."""
        self._do(self._call(self._executor.lose))
        self.settle()

    @contextlib.contextmanager
    def without_worker(self) -> Iterator[None]:
        """The host of the worker is gone, and what ran on it; at the end of the block it is back."""
        self._do(self._call(self._executor.leave))
        self.settle()
        self._do(self._end_in_silence())
        try:
            yield
        finally:
            self._do(self._call(self._executor.come_back))
            self.settle()

    # --- begin and end ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as closing:
            self._settings = self._make_settings(closing)
            closing.enter_context(_quiet())
            self._loop = StillLoop()
            closing.callback(self._loop.close)
            thread = threading.Thread(target=self._loop.run_forever, name="virtual-service")
            thread.start()
            closing.callback(thread.join, CLOSED_S)
            closing.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            self._do(self._start())
            closing.callback(lambda: self._do(self._stop()))
            self.client = closing.enter_context(_VirtualClient(self))
            self.settle()
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _make_settings(self, closing: contextlib.ExitStack) -> Settings:
        memory = Path("/dev/shm")  # noqa: S108 - the directory in it is ours alone
        folder = tempfile.mkdtemp(prefix="jobservice-", dir=memory if memory.is_dir() else None)
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        values: dict[str, Any] = {
            "data_dir": Path(folder),
            "database": None,
            "listen": None,
            "slots": self._slots,
            "lease_s": self._lease.total_seconds(),
            "poll_s": self._poll.total_seconds(),
        }
        return Settings(**values)

    # --- in the loop --------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _call(self, act: Callable[[], None]) -> None:
        act()

    async def _start(self) -> None:
        self._store = await SqliteStore.open(self._settings.database_path, open_writer=StillWriter)
        if not hasattr(self, "_beginning"):
            self._beginning = await self._store.head_position()
        self._service = Service(
            self._settings,
            store=self._store,
            executor=self._executor,
            clock=self._clock,
            rng=self._random,
            worker_id=WORKER_ID,
        )
        await self._service.listen()
        self._stopping = asyncio.Event()
        self._loops = asyncio.ensure_future(self._run_loops())

    async def _end_in_silence(self) -> None:
        """As of a worker that had company: else its leases would be kept for it."""
        await self._store.note_contact(WORKER_ID, now=self._clock.now(), minds_silence=True)

    async def _run_loops(self) -> None:
        async with asyncio.TaskGroup() as group:
            loops = self._service.start_loops(group)
            await self._stopping.wait()
            await self._service.drain()
            for loop in loops:
                loop.cancel()

    async def _stop(self) -> None:
        self._stopping.set()
        try:
            await self._loops
        finally:
            await self._service.aclose()

    async def _rest(self) -> None:
        """Let everything be done that can be done before time passes."""
        await self._loop.rest()
        if self._loops.done():
            self._loops.result()
        if self._executor.fault is not None:
            raise self._executor.fault

    async def _step(self, limit: dt.datetime) -> bool:
        """Go to the next due thing, if there is one until then."""
        due_at = self._clock.next_alarm_at()
        if due_at is None or due_at > limit:
            self._clock.advance_to(limit)
            return False
        self.steps += 1
        self._clock.advance_to(due_at)
        await self._rest()
        return True

    async def _advance_to(self, instant: dt.datetime) -> None:
        await self._rest()
        while await self._step(instant):
            pass

    async def _pass_alone(self, until: dt.datetime) -> None:
        """Let time pass for the jobs that run, while there is no service."""
        while (due_at := self._clock.next_alarm_at()) is not None and due_at <= until:
            self._clock.advance_to(due_at)
        self._clock.advance_to(until)

    async def _until_final(self, job_ids: Sequence[str], limit: dt.datetime) -> list[str]:
        await self._rest()
        keys = [JobKey(DEFAULT_TENANT, job_id) for job_id in job_ids]
        while True:
            found = await self._store.find_jobs(keys)
            over = [
                key.job_id
                for key, job in zip(keys, found, strict=True)
                if job is None or job.state in FINAL
            ]
            if over or not await self._step(limit):
                return over

    async def _events(self) -> list[Event]:
        events: list[Event] = []
        position = self._beginning
        while True:
            page = await self._store.list_changes(position, limit=PAGE)
            if not page.changes:
                return events
            events += [change.event for change in page.changes]
            position = page.position


class _VirtualClient(Client):
    """The client of a service in virtual time: every call leaves the service at rest."""

    def __init__(self, service: VirtualService) -> None:
        super().__init__(service.address)
        self._service = service

    def as_completed(self, jobs: Iterable[JobRef], timeout: Length | None = None) -> Iterator[Job]:
        """Jobs as each is final, while the clock moves, for `timeout` of virtual time."""
        limit = LONGEST_WAIT if timeout is None else timeout
        if not isinstance(limit, dt.timedelta):
            limit = dt.timedelta(seconds=limit)
        until = self._service.now + limit
        waiting = dict.fromkeys(job_id_of(job) for job in jobs)
        while waiting:
            over = self._service.until_final(list(waiting), until)
            if not over:
                named = ", ".join(list(waiting)[:3])
                raise DeadlineExceeded(f"After {limit} of virtual time not final: {named}.")
            for job_id in over:
                waiting.pop(job_id)
                yield self.get(job_id)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        answer = super()._call(*args, **kwargs)
        self._service.settle()
        return answer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Log errors alone, unless the program has set the log up as it wants it."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.reset_defaults()
