"""Databases by their URLs: what may be opened, and how it is read without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from metahpo.archive import SourceError, UnrecognisedSourceError
from metahpo.archive.shown import cause_of, reason_of, without_passwords
from optuna_meta.database import NotReadableInPlace, read_studies
from optuna_meta.sqlite_file import check_size, needs_copy, private_copy
from optuna_meta.stored_study import StoredStudy

# Seconds to wait for a writer; after that, a copy is read.
_PATIENCE = 1.0


def shown(url: sa.URL) -> str:
    """Return a URL as it may be shown and archived: without its password."""
    return without_passwords(url.render_as_string(hide_password=True))


def sqlite_path(url: sa.URL) -> str | None:
    """Return the path of an SQLite database's file; None for one in memory."""
    database = url.database or ""
    if not database or ":memory:" in database or url.query.get("mode") == "memory":
        return None
    return unquote(database[5:].split("?")[0]) if database.startswith("file:") else database


def read_url(
    text: str, attribute: str, *, user_attributes: bool = False
) -> tuple[list[StoredStudy], str]:
    """Return the studies of a database, and the database's name as it may be shown.

    SQLite files are opened read-only or copied first, so that nothing is written beside them and
    a mistyped URL creates nothing.

    Args:
        text: As for ``optuna.create_study(storage=...)``.
        attribute: The key of the system attribute to read with each study.
        user_attributes: Whether to read those of studies and trials.

    Raises:
        UnrecognisedSourceError: For a URL that is not a database's.
        SourceError: For a file that does not exist, a driver that is not installed, and a
            database that cannot be read.
    """
    try:
        url = sa.make_url(text)
        url.get_dialect()
        is_file = url.get_backend_name() == "sqlite"
    except ImportError as error:
        raise _without_driver(text, error) from cause_of(error, text)
    except (SQLAlchemyError, ValueError) as error:
        # The rest may hold a password.
        scheme = text.partition(":")[0] if "://" in text else text
        raise UnrecognisedSourceError(
            f"{scheme!r} is not a database's scheme", text
        ) from cause_of(error, text)
    if is_file:
        return _read_file(url, attribute, user_attributes), shown(url)
    with _engine(url) as engine:
        studies = read_studies(engine, attribute, name=shown(url), user_attributes=user_attributes)
        return studies, shown(url)


def read_sqlite(
    path: Path, attribute: str, *, user_attributes: bool = False
) -> tuple[list[StoredStudy], str]:
    """Return the studies of an SQLite file, and the database's name; see ``read_url``."""
    url = sa.URL.create("sqlite", database=str(path))
    return _read_file(url, attribute, user_attributes), shown(url)


def _read_file(url: sa.URL, attribute: str, user_attributes: bool) -> list[StoredStudy]:
    name, database = shown(url), sqlite_path(url)
    if database is None:
        raise SourceError(f"{name} is in memory: another connection finds nothing there")
    path = Path(database)
    try:
        if not path.is_file():
            raise SourceError(f"{name}: there is no file {database!r}")
        check_size(path, name)
        if not needs_copy(path):
            query = {**url.query, "mode": "ro", "uri": "true"}
            in_place = url.set(database=f"file:{quote(database)}", query=query)
            with _engine(in_place, timeout=_PATIENCE) as engine:
                return read_studies(engine, attribute, name=name, user_attributes=user_attributes)
    except NotReadableInPlace:
        pass
    # A path may also hold what no path can (a null character), or be in a folder of others.
    except (OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot read {name}: {reason_of(error)}") from error
    with private_copy(path, name) as copy, _engine(_file_url(copy)) as engine:
        return read_studies(engine, attribute, name=name, user_attributes=user_attributes)


def _file_url(path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(path))


@contextmanager
def _engine(url: sa.URL, **arguments: Any) -> Iterator[sa.Engine]:
    """Yield an engine that leaves no connection behind."""
    text = url.render_as_string(hide_password=False)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    except ImportError as error:
        raise _without_driver(text, error) from cause_of(error, text)
    # A dialect meets its options here: arguments that it does not know, numbers that are none.
    except (SQLAlchemyError, ValueError, TypeError) as error:
        reason = reason_of(error, text)
        raise SourceError(f"cannot read {shown(url)}: {reason}", text) from cause_of(error, text)
    try:
        yield engine
    finally:
        engine.dispose()


def _without_driver(text: str, error: ImportError) -> SourceError:
    scheme = text.partition(":")[0]
    return SourceError(f"the database driver for {scheme!r} is not installed: {error}", text)
