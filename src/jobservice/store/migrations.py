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


@dataclasses.dataclass(frozen=True, slots=True)
class Review:
    """How the schema of a database stands to the migrations that this program knows."""

    database: str
    """How to name it."""
    version: int
    known: int
    """The newest version that this program knows."""
    pending: tuple[Migration, ...]
    changed: tuple[Migration, ...]
    """Applied, but with another text than that of the file."""
    newer: tuple[int, ...]
    """Applied, and not known here."""

    @property
    def complaints(self) -> list[str]:
        """What is wrong, each with its remedy; empty where the schema is as it should be."""
        found = []
        if self.newer:
            found.append(
                f"The schema of {self.database} is version {self.version}, and this JobService knows "
                f"versions up to {self.known}. Run the newer JobService that wrote it, or restore a "
                "backup."
            )
        found += [
            f"Migration {each.version:04} ({each.name}) of {self.database} is not the one that was "
            "applied: its checksum differs. Run the JobService that applied it."
            for each in self.changed
        ]
        if self.pending:
            names = ", ".join(f"{each.version:04} ({each.name})" for each in self.pending)
            found.append(
                f"{self.database} is at version {self.version} of {self.known}; still to be applied: "
                f"{names}. Run `jobservice db upgrade`, or start the service, which does it; "
                "`jobservice db sql` prints what would be run."
            )
        return found


def review(known: Sequence[Migration], applied: Mapping[int, str], database: str) -> Review:
    """Compare what was applied with what is known.

    Args:
        known: In order.
        applied: The checksums of the applied ones by their numbers.
        database: How to name the database.
    """
    version = max(applied, default=0)
    return Review(
        database,
        version=version,
        known=len(known),
        pending=tuple(known[version:]),
        changed=tuple(
            each for each in known[:version] if applied.get(each.version) != each.checksum
        ),
        newer=tuple(sorted(version for version in applied if version > len(known))),
    )


def script(
    chosen: Sequence[Migration], *, before: str, ledger: str, begin: str = "BEGIN", after: int
) -> str:
    """What an upgrade runs for these migrations, as text that can be read, or run by hand.

    Args:
        chosen: In order.
        before: The statement that a transaction begins with, without its semicolon; empty for none.
        ledger: The statement that makes the table of the applied migrations.
        begin: How a transaction is begun.
        after: The version that the first one follows, for the headline.
    """
    newest = chosen[-1].version if chosen else after
    text = f"-- The schema of JobService, from version {after} to {newest}.\n"
    for each in chosen:
        text += f"\n-- {each.version:04} {each.name}, SHA-256 {each.checksum}\n\n{begin};\n"
        text += f"{before};\n" if before else ""
        text += f"{ledger.strip()};\n\n{each.sql.strip()}\n\n"
        text += "INSERT INTO schema_migrations (version, name, checksum)\n"
        text += f"VALUES ({each.version}, '{each.name}', '{each.checksum}');\nCOMMIT;\n"
    return text


def between(known: Sequence[Migration], begin: int, end: int | None) -> list[Migration]:
    """The migrations that lead from one version to another.

    Raises:
        SetupError: there are no such versions.
    """
    end = len(known) if end is None else end
    if not 0 <= begin <= end <= len(known):
        raise SetupError(
            f"There are no migrations from version {begin} to {end}: versions go from 0 (an empty "
            f"database) to {len(known)}, and --from comes before --to."
        )
    return list(known[begin:end])


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
    found = review(known, applied, database)
    if found.newer or found.changed:
        raise SetupError(found.complaints[0])
    return list(found.pending)
