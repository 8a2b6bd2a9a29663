"""Migrations: the schema of a database, brought up to date step by step.

A migration is a file `0001_name.sql`. It is applied once, in a transaction of its own together with
the record of it (number, name, checksum), so a crash between two of them is only a pause. A file that
was applied is never changed: another checksum is refused, and so is a database that knows a number
which this program does not.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobservice.errors import SetupError

_FILE_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path) -> list[Migration]:
    """The migrations of a folder in order.

    Raises:
        SetupError: their numbers are not 1, 2, 3 …
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        parts = _FILE_NAME.match(path.name)
        if parts is None:
            raise SetupError(f"{path} is not named like 0001_name.sql.")
        found.append(Migration(int(parts[1]), parts[2], path.read_text("utf-8")))
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise SetupError(f"The migrations in {folder} are not numbered 0001, 0002 and so on.")
    return found


def pending(
    known: Sequence[Migration], applied: Mapping[int, str], database: str
) -> list[Migration]:
    """Those of the known migrations that are still to be applied.

    Args:
        known: In order.
        applied: The checksums of the applied ones by their numbers.
        database: How to name the database in an error.

    Raises:
        SetupError: the database is newer than this program, or an applied file was changed.
    """
    newest = max(applied, default=0)
    if newest > len(known):
        raise SetupError(
            f"The schema of {database} is version {newest}, and this JobService knows versions up "
            f"to {len(known)}. Run the newer JobService that wrote it, or restore a backup."
        )
    for each in known[:newest]:
        if applied.get(each.version) != each.checksum:
            raise SetupError(
                f"Migration {each.version:04} ({each.name}) of {database} is not the one that was "
                "applied: its checksum differs. Run the JobService that applied it."
            )
    return list(known[newest:])
