"""Opening the database file, bringing its schema up to date, and saying what is wrong with it in a user's words."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

import aiosqlite

from jobs.errors import HostError
from scheduler import statements

SCHEMA_VERSION = 3
# From schema number → the file in scheduler/sql/ that leads to the next one.
MIGRATIONS = {1: "migrate_1.sql", 2: "migrate_2.sql"}
_BUSY_TIMEOUT_S = 5.0
_SPACE = "free some space; jobs that run go on, and nothing of this request was kept"


class DiskFull(HostError):
    """No space for the commit. Nothing of it was kept; it may be tried again."""

    code = "disk-full"
    status = 507


async def open_database(path: str) -> aiosqlite.Connection:
    """The writing connection, with the schema of this version. Raises HostError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = await aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    except (OSError, sqlite3.Error) as error:
        raise HostError(
            f"can't open the journal {path}: {error}", hint="state_dir must exist and belong to the daemon's user"
        ) from error
    try:
        await _prepare(connection, path)
    except BaseException as error:
        await connection.close()
        if isinstance(error, sqlite3.Error):
            raise failure(path, error) from error
        raise
    return connection


async def open_reader(path: str) -> aiosqlite.Connection:
    """A second connection that can only read."""
    return await aiosqlite.connect(
        f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S
    )


async def _prepare(connection: aiosqlite.Connection, path: str) -> None:
    found = await _number(connection, "PRAGMA user_version")
    if found > SCHEMA_VERSION:
        raise HostError(
            f"the journal {path} was written by a later version (schema {found}, this version knows {SCHEMA_VERSION})",
            hint="install that version again, or start with another state_dir",
        )
    await connection.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer
    await connection.execute("PRAGMA synchronous = FULL")  # a commit that was answered survives a power cut
    if found == 0:
        await _script(connection, statements.text("schema.sql"), SCHEMA_VERSION)
    while 0 < found < SCHEMA_VERSION:
        await _script(connection, statements.text(MIGRATIONS[found]), found + 1)
        found += 1


async def _script(connection: aiosqlite.Connection, sql: str, version: int) -> None:
    """All or nothing, with its number."""
    await connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {version};\nCOMMIT;")


async def _number(connection: aiosqlite.Connection, sql: str) -> int:
    async with connection.execute(sql) as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


def failure(path: str, error: sqlite3.Error) -> HostError:
    """SQLite's error as one with a next step."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"no space left for the journal {path}", hint=_SPACE)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return HostError(
            f"the journal {path} is damaged: {error}",
            hint=f"keep a copy; `sqlite3 {path} .recover` saves what can be read; or restore a backup; "
            "or move the file away to start with an empty journal",
        )
    if code == sqlite3.SQLITE_BUSY:
        return HostError(f"the journal {path} is locked by another program", hint=f"see who has it open: fuser {path}")
    if code == sqlite3.SQLITE_IOERR:
        return HostError(f"the journal {path} could not be read or written: {error}", hint="look at the disk: dmesg")
    return HostError(f"the journal {path} refused: {error}", hint="this may be a bug; the journal was not changed")
