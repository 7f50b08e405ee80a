"""Bounds of what an SQLite file can make its reader do."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from metahpo.archive.limits import LONGEST_READ

# Instructions of SQLite's between two looks at the clock: some milliseconds.
_INSTRUCTIONS = 100_000


@contextmanager
def bounded(
    connection: sa.Connection, tables: Sequence[str], *, replace_undecodable: bool
) -> Iterator[None]:
    """Bound what an SQLite file can make its reader do; servers are somebody's own.

    The connection may be a study's own, so that everything is set back.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    _check_tables(driver, tables)
    end = time.monotonic() + LONGEST_READ
    driver.set_progress_handler(lambda: time.monotonic() > end, _INSTRUCTIONS)
    former = driver.text_factory
    if replace_undecodable:
        driver.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        if "interrupted" not in str(error):
            raise
        raise ValueError(f"reading takes longer than {LONGEST_READ:.0f} seconds") from None
    finally:
        driver.set_progress_handler(None, 0)
        driver.text_factory = former


def _check_tables(driver: sqlite3.Connection, names: Sequence[str]) -> None:
    """Raise ValueError where a name of Optuna's is a view or computed, which may never end."""
    for name in names:
        find = "SELECT type, sql FROM sqlite_master WHERE name = ? AND type IN ('table', 'view')"
        for kind, sql in driver.execute(find, (name,)).fetchall():
            if kind != "table" or str(sql).lstrip()[:14].upper() == "CREATE VIRTUAL":
                raise ValueError(f"{name} is not a table but computed")
        columns = driver.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (name,))
        if computed := [column for column, hidden in columns.fetchall() if hidden]:
            raise ValueError(f"column {computed[0]} of {name} is computed")
