"""Leftovers: files on this host of jobs that another server has deleted."""

import asyncio
from collections.abc import Callable, Collection

from jobservice.engine.parts import Parts
from jobservice.engine.sweep import BATCH, IDLE_POLLS, RemoveFiles
from jobservice.errors import JobServiceError
from jobservice.failpoints import failpoint
from jobservice.telemetry import Logger, logger

SPACING_S = 1.0
"""Between two looks: others hint at whatever they change."""


class Leftovers:
    """Removes the files that deletes by other servers have left with the worker of this one.

    The files go first, then what is known of them: after a crash in between they are looked for again.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        worker_id: str,
        remove_files: RemoveFiles,
        held: Callable[[], Collection[str]],
        poll_s: float,
    ) -> None:
        """`held` says of which jobs the worker may still make files."""
        self._parts = parts
        self._worker_id = worker_id
        self._remove_files = remove_files
        self._held = held
        self._poll_s = poll_s
        self._log: Logger = logger("leftovers")

    async def run(self, adopted: asyncio.Event) -> None:
        """A loop: look once running attempts are adopted, at each hint, and from time to time."""
        clock = self._parts.clock
        with self._parts.signals.elsewhere.heard() as bell:
            while True:
                await adopted.wait()
                wait_s = self._poll_s
                try:
                    if await self.clear():
                        wait_s *= IDLE_POLLS
                except JobServiceError as error:
                    self._log.warning("leftovers_unknown", error=str(error))
                await clock.sleep(SPACING_S)
                await bell.wait(clock, wait_s)

    async def clear(self) -> bool:
        """Remove all that can be; whether nothing is left."""
        store, after, all_gone = self._parts.store, "", True
        while True:
            left = await store.list_left_files(self._worker_id, after=after, limit=BATCH)
            held = self._held() if left else ()
            free = [each for each in left if each[0] not in held]
            removed = await self._remove_files(free) if free else ()
            gone = [job_id for (job_id, _), is_gone in zip(free, removed, strict=True) if is_gone]
            if gone:
                failpoint("leftovers.removed")
                await store.forget_left_files(self._worker_id, gone)
            all_gone = all_gone and len(gone) == len(left)
            if len(left) < BATCH:
                return all_gone
            after = left[-1][0]
