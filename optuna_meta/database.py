"""Optuna's database tables, read with one plain query each.

Optuna's schema is in this file and nothing of tasks. Every statement is a SELECT, and SQLite
files are opened read-only, so that a mistyped URL creates nothing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from metahpo.archive import SourceError, UnrecognisedSourceError
from metahpo.archive.errors import without_passwords
from metahpo.tasks.distributions import parse_distribution
from metahpo.tasks.space import SpaceError
from optuna_meta.constraints import LISTED, NAMED

# Rows fetched at a time.
_BATCH = 10_000


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns))


# Rows are read in the order of the first column.
_STUDIES = _table("studies", "study_id", "study_name")
_DIRECTIONS = _table("study_directions", "objective", "study_id", "direction")
_ATTRIBUTES = _table(
    "study_system_attributes", "study_system_attribute_id", "study_id", "key", "value_json"
)
_TRIALS = _table("trials", "trial_id", "study_id", "state", "datetime_start", "datetime_complete")
_VALUES = _table("trial_values", "trial_value_id", "trial_id", "value", "value_type")
_REPORTS = _table(
    "trial_intermediate_values",
    "trial_intermediate_value_id",
    "trial_id",
    "step",
    "intermediate_value",
    "intermediate_value_type",
)
_PARAMS = _table(
    "trial_params", "param_id", "trial_id", "param_name", "param_value", "distribution_json"
)
_TRIAL_ATTRIBUTES = _table(
    "trial_system_attributes", "trial_system_attribute_id", "trial_id", "key", "value_json"
)
_HOLDS_CONSTRAINTS = sa.or_(
    _TRIAL_ATTRIBUTES.c.key == LISTED, _TRIAL_ATTRIBUTES.c.key.like(f"{NAMED}%")
)
# SQL has no literals for these; a second column holds them.
_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


@dataclass(slots=True)
class StoredTrial:
    """A trial as stored.

    Attributes:
        state: Optuna's.
        started: UTC without a time zone.
        finished: UTC without a time zone.
        params: Values as the objective saw them.
        value: The objective's value; any one of several objectives.
        reports: Intermediate values by step.
        constraints: The system attributes that hold constraints, by key.
    """

    state: TrialState
    started: datetime | None
    finished: datetime | None
    params: dict[str, Any] = field(default_factory=dict)
    value: float | None = None
    reports: dict[int, float] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class StoredStudy:
    """A study as stored.

    Attributes:
        name: The study's name.
        directions: One for each objective.
        attribute: The requested system attribute; None where there is none.
        trials: In the order in which they were created.
        requested: Hyperparameters with their distributions, in the order in which trials first
            requested them, by name and the distribution's JSON text.
    """

    name: str
    directions: list[StudyDirection] = field(default_factory=list)
    attribute: Any = None
    trials: list[StoredTrial] = field(default_factory=list)
    requested: dict[tuple[str, str], tuple[str, BaseDistribution]] = field(default_factory=dict)


# Trials by identifier, each with its study.
_Trials: TypeAlias = dict[int, tuple[StoredStudy, StoredTrial]]
# The driver's rows: tuples of the table's columns.
_Rows: TypeAlias = Iterator[Any]


# ---- opening -------------------------------------------------------------------------------


def open_read_only(url: str | sa.URL) -> sa.Engine:
    """Return an engine for a storage URL; SQLite files are opened read-only.

    Args:
        url: As for ``optuna.create_study(storage=...)``.

    Raises:
        UnrecognisedSourceError: For a URL that is not a database's.
        SourceError: For a file that does not exist and a driver that is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            parsed = _read_only_file(parsed)
        return sa.create_engine(parsed)
    except ImportError as error:
        driver = f"the database driver for {_scheme(url)!r} is not installed"
        raise SourceError(f"{driver}: {error}") from error
    except SQLAlchemyError as error:
        raise UnrecognisedSourceError(f"{_scheme(url)!r} is not a database's scheme") from error


def shown(url: sa.URL) -> str:
    """Return a URL as it may be shown and archived: without its password."""
    return without_passwords(url.render_as_string(hide_password=True))


def _scheme(url: str | sa.URL) -> str:
    # The rest may hold a password.
    return str(url).partition(":")[0]


def sqlite_path(url: sa.URL) -> str | None:
    """Return the path of an SQLite database's file; None for one in memory."""
    database = url.database or ""
    if not database or ":memory:" in database or url.query.get("mode") == "memory":
        return None
    return unquote(database[5:].split("?")[0]) if database.startswith("file:") else database


def _read_only_file(url: sa.URL) -> sa.URL:
    path = sqlite_path(url)
    if path is None:
        raise SourceError(f"{shown(url)} is in memory: another connection finds nothing there")
    if not Path(path).is_file():
        raise SourceError(f"{shown(url)}: there is no file {path!r}")
    return url.set(
        database=f"file:{quote(path)}", query={**url.query, "mode": "ro", "uri": "true"}
    )


# ---- reading -------------------------------------------------------------------------------


def read_studies(
    engine: sa.Engine, attribute: str, study_id: int | None = None
) -> list[StoredStudy]:
    """Return the studies of a database, in the order in which they were created.

    Trials are read before what belongs to them: one that was complete then has all its rows by
    the time they are read, however many workers write meanwhile.

    Args:
        engine: Where to read.
        attribute: The key of the system attribute to read with each study.
        study_id: The only study to read; None for all.

    Raises:
        SourceError: For a database that cannot be reached or lacks Optuna's tables.
    """
    try:
        with engine.connect() as connection:
            rows = partial(_rows, connection, study_id)
            studies = {number: StoredStudy(name) for number, name in rows(_STUDIES)}
            _put_directions(studies, rows(_DIRECTIONS))
            _put_attributes(studies, attribute, rows(_ATTRIBUTES))
            trials = _put_trials(studies, rows(_TRIALS))
            _put_values(trials, rows(_VALUES))
            _put_reports(trials, rows(_REPORTS))
            _put_constraints(trials, rows(_TRIAL_ATTRIBUTES, _HOLDS_CONSTRAINTS))
            _put_params(trials, rows(_PARAMS))
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, SpaceError) as error:
        reason = str(error).splitlines()[0]
        hint = "; a database of an older Optuna needs `optuna storage upgrade`"
        raise SourceError(
            f"cannot read {shown(engine.url)}: {reason}{hint if 'column' in reason else ''}"
        ) from error
    return list(studies.values())


def _rows(
    connection: sa.Connection,
    study_id: int | None,
    table: sa.TableClause,
    condition: sa.ColumnElement[bool] | None = None,
) -> _Rows:
    """Yield a table's rows in the order of its first column: all, or those of one study."""
    statement = sa.select(table)
    if condition is not None:
        statement = statement.where(condition)
    if study_id is not None:
        owner = table if "study_id" in table.c else _TRIALS
        if owner is not table:
            statement = statement.join(owner, table.c.trial_id == owner.c.trial_id)
        statement = statement.where(owner.c.study_id == study_id)
    # The driver's own tuples: SQLAlchemy's rows would double the time of the largest table.
    cursor = connection.execute(statement.order_by(next(iter(table.c)))).cursor
    while cursor is not None and (batch := cursor.fetchmany(_BATCH)):
        yield from batch


def _put_directions(studies: dict[int, StoredStudy], rows: _Rows) -> None:
    for _, study_id, direction in rows:
        if study := studies.get(study_id):
            study.directions.append(StudyDirection[direction])


def _put_attributes(studies: dict[int, StoredStudy], attribute: str, rows: _Rows) -> None:
    for _, study_id, key, text in rows:
        if key == attribute and (study := studies.get(study_id)):
            study.attribute = _parsed(text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _put_trials(studies: dict[int, StoredStudy], rows: _Rows) -> _Trials:
    """Put the trials into their studies, and return both by the trials' identifiers."""
    trials: _Trials = {}
    for trial_id, study_id, state, started, finished in rows:
        # A study that was created since their table was read is left for another time.
        if study := studies.get(study_id):
            trial = StoredTrial(TrialState[state], _moment(started), _moment(finished))
            study.trials.append(trial)
            trials[trial_id] = study, trial
    return trials


def _moment(value: datetime | str | None) -> datetime | None:
    # SQLite keeps text.
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _put_values(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, value, kind in rows:
        if found := trials.get(trial_id):
            found[1].value = _number(value, kind)


def _number(value: float | None, kind: str) -> float:
    return _NOT_FINITE.get(kind, math.nan) if value is None else value


def _put_reports(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, step, value, kind in rows:
        if found := trials.get(trial_id):
            found[1].reports[step] = _number(value, kind)


def _put_constraints(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, key, text in rows:
        if found := trials.get(trial_id):
            found[1].constraints[str(key)] = _parsed_constraint(text)


def _parsed_constraint(text: str) -> Any:
    """Return an attribute's value; NaN, a violation of unknown size, for what is no JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return math.nan


def _put_params(trials: _Trials, rows: _Rows) -> None:
    # This loop runs hundreds of thousands of times. The rows of a trial mostly follow one another.
    latest: int | None = None
    found: tuple[StoredStudy, StoredTrial] | None = None
    for _, trial_id, name, internal, text in rows:
        if trial_id != latest:
            latest, found = trial_id, trials.get(trial_id)
        if found is None:
            continue
        study, trial = found
        request = study.requested.get((name, text))
        if request is None:
            request = study.requested[name, text] = sys.intern(name), parse_distribution(text)
        name, distribution = request
        trial.params[name] = distribution.to_external_repr(internal)
