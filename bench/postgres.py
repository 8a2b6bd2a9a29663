"""The PostgreSQL server of the rows about it, which syncs every commit, and databases in it."""

import asyncpg

from bench.workplace import Workplace

_STATED = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers",
    "max_wal_size", "autovacuum",
)  # fmt: skip


async def empty_database(place: Workplace, name: str) -> str:
    """The address of a new database without anything in it."""
    connection = await asyncpg.connect(place.postgres.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return place.postgres.url(name)


async def configuration(place: Workplace) -> str:
    """What the server is, and how it is set up as far as it matters here."""
    connection = await asyncpg.connect(place.postgres.url())
    version = await connection.fetchval("SHOW server_version")
    settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in _STATED]
    await connection.close()
    return f"PostgreSQL {version} on a Unix socket: {', '.join(settings)}"
