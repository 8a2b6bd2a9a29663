"""Lookout: who keeps the database from cleaning up is named in the log, again when twice as old."""

import datetime as dt

from jobservice.engine.parts import Parts
from jobservice.errors import Deposed, JobServiceError
from jobservice.telemetry import Logger, logger

LOOKS = 2
"""How often it looks in the time after which a transaction is old."""


class Lookout:
    """The loop of who leads. It can be stopped at any point and begun again."""

    def __init__(self, parts: Parts, *, older_s: float) -> None:
        self._parts = parts
        self._older = dt.timedelta(seconds=older_s)
        self._said: dict[tuple[str, str], dt.timedelta] = {}
        """The age of each as it was last named."""
        self._log: Logger = logger("lookout")

    async def run(self) -> None:
        """Look from time to time; ends at once where the store has no such thing."""
        while True:
            try:
                if not await self.look():
                    return
            except Deposed:
                raise
            except JobServiceError as error:
                self._log.warning("look_failed", error=str(error))
            await self._parts.clock.sleep(self._older.total_seconds() / LOOKS)

    async def look(self) -> bool:
        """Name what is old; whether it is worth to look again."""
        found = await self._parts.store.list_held_open(older=self._older)
        if found is None:
            return False
        said, self._said = self._said, {}
        for each in found:
            key, age = (each.kind, each.name), each.age or self._older
            before = said.get(key, age)
            if key not in said or not before <= age < 2 * before:
                self._log.warning(
                    "transaction_held_open",
                    kind=each.kind,
                    name=each.name,
                    application=each.application,
                    user=each.user,
                    state=each.state,
                    age_s=None if each.age is None else round(each.age.total_seconds()),
                )
                before = age
            self._said[key] = before
        return True
