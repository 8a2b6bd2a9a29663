"""Watch: one read of each change from the store, for any number of watchers.

The feed keeps the newest changes in a ring. A subscription is a place in that ring, so a watcher
costs no queue of its own; one that falls behind the ring, or begins at an old position, reads the
store by itself until it has caught up with the ring again. Without subscriptions nothing is read.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator

from jobservice.errors import JobServiceError
from jobservice.model.event import Change
from jobservice.mutants import mutant
from jobservice.store.port import Store

PAGE = 500
"""How many changes are read at a time."""


class ChangeFeed:
    """The changes of the store, in order, for everybody in this process."""

    def __init__(self, store: Store, *, capacity: int, poll_s: float) -> None:
        self._store = store
        self._poll_s = poll_s
        self._ring: collections.deque[Change] = collections.deque(maxlen=capacity)
        self._end = 0
        """Counts every change that was ever put into the ring."""
        self._index: dict[str, int] = {}
        """Where behind a position the ring goes on, for each position in it and the one before."""
        self._position: str | None = None
        self._subscriptions = 0
        self._hint = asyncio.Event()
        self._news = asyncio.Event()
        store.on_commit(self._note_commit)
        store.on_hint(self._note_commit)

    async def run(self) -> None:
        """Read changes while anybody listens. Only a cancel ends this."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s if self._subscriptions else None):
                    await self._hint.wait()
            self._hint.clear()
            if self._subscriptions:
                with contextlib.suppress(JobServiceError):
                    await self._read()

    def _note_commit(self) -> None:
        if self._subscriptions:
            self._hint.set()

    @contextlib.asynccontextmanager
    async def subscribe(self, after: str | None = None) -> AsyncIterator["Subscription"]:
        """Everything behind the position `after`, or from now on.

        Raises:
            ResumeTokenExpired: on the first `next`, when `after` is too old or none of ours.
        """
        if not self._subscriptions:
            self._forget()
        self._subscriptions += 1
        try:
            if self._position is None:
                position = await self._store.head_position()
                if self._position is None:
                    self._begin_at(position)
            resumes = after is not None and not mutant("watch.forgets_its_place")
            start = after if after and resumes else await self._store.head_position()
            yield Subscription(self, self._store, start)
        finally:
            self._subscriptions -= 1

    def since(self, position: str) -> list[Change] | None:
        """What the ring holds behind `position`; None when it does not know that position."""
        begin = self._index.get(position)
        if begin is None:
            return None
        count = self._end - begin
        if count == 0:
            return []
        ring = self._ring
        return [ring[i] for i in range(len(ring) - count, min(len(ring) - count + PAGE, len(ring)))]

    def ticket(self) -> asyncio.Event:
        """Take it before looking for changes, and wait with it where there were none."""
        return self._news

    async def news(self, ticket: asyncio.Event) -> None:
        """Until something may have come since the ticket was taken."""
        self._hint.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await ticket.wait()

    def _begin_at(self, position: str) -> None:
        self._position = position
        self._index[position] = self._end

    def _forget(self) -> None:
        """Nobody listened for a while: the ring has a gap behind it."""
        self._ring.clear()
        self._index.clear()
        self._position = None

    async def _read(self) -> None:
        while (asked := self._position) is not None:
            page = await self._store.list_changes(asked, limit=PAGE)
            if self._position != asked:
                continue
            if not page.changes:
                return
            for change in page.changes:
                self._append(change)
            self._position = page.position
            self._index[page.position] = self._end
            self._news.set()
            self._news = asyncio.Event()

    def _append(self, change: Change) -> None:
        ring = self._ring
        if len(ring) == ring.maxlen:
            oldest = self._end - len(ring)
            for position in [p for p in _first(self._index, 2) if self._index[p] <= oldest]:
                del self._index[position]
        ring.append(change)
        self._end += 1
        self._index[change.position] = self._end


class Subscription:
    """A place in the order of changes."""

    def __init__(self, feed: ChangeFeed, store: Store, position: str) -> None:
        self._feed = feed
        self._store = store
        self.position = position
        """Behind the last change that `next` returned."""

    async def next(self, until: str | None = None) -> list[Change]:
        """The next changes, at least one and none behind `until`; waits until there are some."""
        while True:
            ticket = self._feed.ticket()
            changes = self._feed.since(self.position)
            if changes is None:
                page = await self._store.list_changes(self.position, limit=PAGE)
                changes = list(page.changes)
                if not changes:
                    self.position = page.position
            if changes:
                changes = _cut(changes, until)
                self.position = changes[-1].position
                return changes
            await self._feed.news(ticket)

    def look(self) -> list[Change] | None:
        """The next changes that are in memory already; None when the place is behind the ring."""
        changes = self._feed.since(self.position)
        if changes:
            self.position = changes[-1].position
        return changes


def _cut(changes: list[Change], until: str | None) -> list[Change]:
    for index, change in enumerate(changes):
        if change.position == until:
            return changes[: index + 1]
    return changes


def _first(index: dict[str, int], count: int) -> list[str]:
    """The oldest keys of a dictionary that is filled in order."""
    keys = iter(index)
    return [key for _, key in zip(range(count), keys, strict=False)]
