"""Optuna's database tables, read with one plain query each.

Optuna's schema is in this file and nothing of tasks. Every statement is a SELECT. Whatever a row
claims is checked: a row that is wrong costs its trial, what is wrong with a study costs that
study, and both say why.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import sqlalchemy as sa
from optuna.study import StudyDirection
from sqlalchemy.exc import SQLAlchemyError

from metahpo.archive import SourceError
from metahpo.archive.bounded_json import parse_json
from metahpo.archive.limits import LONGEST_TEXT, MOST_ROWS
from metahpo.archive.shown import cause_of, encodable, reason_of
from optuna_meta.constraints import LISTED, NAMED
from optuna_meta.sqlite_bounds import bounded
from optuna_meta.stored_study import (
    StoredStudy,
    StoredTrial,
    checked_number,
    checked_step,
    put_param,
    short,
    stored_trial,
    study_name,
)

# Rows fetched at a time, and parameters of one statement.
_BATCH, _PARAMETERS = 1000, 900


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
_STUDY_NOTES = _table(
    "study_user_attributes", "study_user_attribute_id", "study_id", "key", "value_json"
)
_TRIAL_NOTES = _table(
    "trial_user_attributes", "trial_user_attribute_id", "trial_id", "key", "value_json"
)
_TABLES = (
    *(_STUDY_NOTES, _TRIAL_NOTES),
    *(_STUDIES, _DIRECTIONS, _ATTRIBUTES),
    *(_TRIALS, _VALUES, _REPORTS, _TRIAL_ATTRIBUTES, _PARAMS),
)
# SQL has no literals for these; a second column holds them.
_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


# Trials by identifier, each with its study.
_Trials: TypeAlias = dict[int, tuple[StoredStudy, StoredTrial]]
# The driver's rows: tuples of the table's columns.
_Rows: TypeAlias = Iterator[Any]
# Texts that somebody may have made long; the database leaves out those that are too long.
_TEXTS = {"study_name", "value_json", "param_name", "distribution_json"}
# Result codes of SQLite's that say what a copy of the file would not: busy, locked, read-only
# (to be rolled back), cannot open (the files beside it).
_NOT_HERE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}


class NotReadableInPlace(SourceError):
    """SQLite cannot read a file where it is: it is locked, or has to be rolled back first."""


# ---- reading -------------------------------------------------------------------------------


def read_studies(
    engine: sa.Engine,
    attribute: str,
    study_id: int | None = None,
    name: str = "the database",
    *,
    user_attributes: bool = False,
) -> list[StoredStudy]:
    """Return the studies of a database, in the order in which they were created.

    Trials are read before what belongs to them: one that was complete then has all its rows by
    the time they are read, however many workers write meanwhile.

    Args:
        engine: Where to read.
        attribute: The key of the system attribute to read with each study.
        study_id: The only study to read; None for all.
        name: What the database is called in errors.
        user_attributes: Whether to read those of studies and trials.

    Raises:
        NotReadableInPlace: For an SQLite file that is locked or has to be rolled back.
        SourceError: For a database that cannot be reached, lacks Optuna's tables, or takes longer
            than ``metahpo.archive.limits`` admits.
    """
    try:
        with engine.connect() as connection:
            try:
                return _read(connection, attribute, study_id, user_attributes)
            except (SQLAlchemyError, sqlite3.Error) as error:
                if "Could not decode to UTF-8" not in str(error):
                    raise
                return _read(
                    connection, attribute, study_id, user_attributes, replace_undecodable=True
                )
    # Drivers that cannot convert a value raise their own errors and Python's.
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, ValueError, ArithmeticError) as e:
        original = getattr(e, "orig", None) or e
        source = engine.url.render_as_string(hide_password=False)
        reason = reason_of(original, source)
        hint = "; a database of an older Optuna needs `optuna storage upgrade`"
        # The lowest byte is the primary code.
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        raise (NotReadableInPlace if code in _NOT_HERE else SourceError)(
            f"cannot read {name}: {reason}{hint if 'column' in reason else ''}", source
        ) from cause_of(e, source)


def _read(
    connection: sa.Connection,
    attribute: str,
    study_id: int | None,
    user_attributes: bool,
    *,
    replace_undecodable: bool = False,
) -> list[StoredStudy]:
    names = [table.name for table in _TABLES]
    with bounded(connection, names, replace_undecodable=replace_undecodable):
        only = None if study_id is None else {study_id}
        rows = partial(_rows, connection, only)
        studies = {number: StoredStudy(study_name(name)) for number, name in rows(_STUDIES)}
        _put_directions(studies, rows(_DIRECTIONS))
        _put_attributes(studies, rows(_ATTRIBUTES, _ATTRIBUTES.c.key == attribute))
        if only is None:
            only = _affordable(connection, studies)
            rows = partial(_rows, connection, only)
        trials = _put_trials(studies, rows(_TRIALS))
        _put_values(trials, rows(_VALUES))
        _put_reports(trials, rows(_REPORTS))
        _put_constraints(trials, rows(_TRIAL_ATTRIBUTES, _HOLDS_CONSTRAINTS))
        _put_params(trials, rows(_PARAMS))
        if user_attributes:
            _put_notes(studies, rows(_STUDY_NOTES))
            _put_notes({n: trial for n, (_, trial) in trials.items()}, rows(_TRIAL_NOTES))
    for study in studies.values():
        study.leave_out_broken_trials()
    return list(studies.values())


def _rows(
    connection: sa.Connection,
    only: Collection[int] | None,
    table: sa.TableClause,
    condition: sa.ColumnElement[bool] | None = None,
) -> _Rows:
    """Yield a table's rows, or those of some studies, each study's in the first column's order."""
    statement = sa.select(*map(_bounded_column, table.c))
    if condition is not None:
        statement = statement.where(condition)
    statement = statement.order_by(next(iter(table.c)))
    if only is None:
        yield from _fetched(connection, statement)
        return
    owner = table if "study_id" in table.c else _TRIALS
    if owner is not table:
        statement = statement.join(owner, table.c.trial_id == owner.c.trial_id)
    # Databases limit the parameters of a statement, older SQLite to 999.
    numbers = list(only)
    for start in range(0, len(numbers), _PARAMETERS):
        part = numbers[start : start + _PARAMETERS]
        yield from _fetched(connection, statement.where(owner.c.study_id.in_(part)))


def _fetched(connection: sa.Connection, statement: sa.Select[Any]) -> _Rows:
    # The driver's own tuples: SQLAlchemy's rows would double the time of the largest table.
    cursor = connection.execute(statement).cursor
    while cursor is not None and (batch := cursor.fetchmany(_BATCH)):
        yield from batch


def _bounded_column(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if column.key not in _TEXTS:
        return column
    return sa.case((sa.func.length(column) <= LONGEST_TEXT, column))


def _affordable(
    connection: sa.Connection, studies: dict[int, StoredStudy]
) -> Collection[int] | None:
    """Return which studies have at most ``MOST_ROWS`` rows together, the newest first.

    Returns:
        Their identifiers; None for all. The others are marked as broken.
    """
    tables: dict[sa.TableClause, sa.ColumnElement[bool]] = {
        **dict.fromkeys((_TRIALS, _VALUES, _REPORTS, _PARAMS), sa.true()),
        _TRIAL_ATTRIBUTES: _HOLDS_CONSTRAINTS,
    }
    number_of_rows = sa.func.count()
    counts = [
        sa.select(number_of_rows).select_from(table).where(condition)
        for table, condition in tables.items()
    ]
    if sum(connection.scalar(count) or 0 for count in counts) <= MOST_ROWS:
        return None
    of_study: Counter[int] = Counter()
    for table, condition in tables.items():
        statement = sa.select(_TRIALS.c.study_id, number_of_rows).group_by(_TRIALS.c.study_id)
        if table is not _TRIALS:
            statement = statement.join(table, table.c.trial_id == _TRIALS.c.trial_id)
        statement = statement.where(condition)
        for number, count in connection.execute(statement):
            of_study[number] += count
    kept: set[int] = set()
    left = MOST_ROWS
    for number in reversed(studies):
        if of_study[number] <= left:
            kept.add(number)
            left -= of_study[number]
        else:
            studies[number].broken = f"{MOST_ROWS:,} rows are read, it has {of_study[number]:,}"
    return kept


# ---- rows ----------------------------------------------------------------------------------


def _put_directions(studies: dict[int, StoredStudy], rows: _Rows) -> None:
    for _, study_id, direction in rows:
        if study := studies.get(study_id):
            try:
                study.directions.append(StudyDirection[direction])
            except KeyError:
                study.broken = f"unknown direction {short(direction)}"


def _put_attributes(studies: dict[int, StoredStudy], rows: _Rows) -> None:
    for _, study_id, _, text in rows:
        if study := studies.get(study_id):
            try:
                study.attribute = parse_json(text)
            except ValueError:
                # It describes the study, whose trials are as good without.
                study.attribute = None


def _put_trials(studies: dict[int, StoredStudy], rows: _Rows) -> _Trials:
    """Put the trials into their studies, and return both by the trials' identifiers."""
    trials: _Trials = {}
    for trial_id, study_id, state, started, finished in rows:
        # A study that was created since their table was read is left for another time.
        if study := studies.get(study_id):
            trial = stored_trial(state, started, finished)
            study.trials.append(trial)
            trials[trial_id] = study, trial
    return trials


def _put_values(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, value, kind in rows:
        if found := trials.get(trial_id):
            try:
                found[1].value = _number(value, kind)
            except ValueError as error:
                found[1].broken = str(error)


def _put_reports(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, step, value, kind in rows:
        if found := trials.get(trial_id):
            try:
                found[1].reports[checked_step(step)] = _number(value, kind)
            except ValueError as error:
                found[1].broken = str(error)


def _number(value: Any, kind: Any) -> float:
    if value is None and kind in _NOT_FINITE:
        return _NOT_FINITE[kind]
    return checked_number(value)


def _put_constraints(trials: _Trials, rows: _Rows) -> None:
    for _, trial_id, key, text in rows:
        if found := trials.get(trial_id):
            found[1].constraints[str(key)] = _parsed_constraint(text)


def _parsed_constraint(text: Any) -> Any:
    """Return an attribute's value; NaN, a violation of unknown size, for what is no JSON."""
    try:
        return parse_json(text)
    except ValueError:
        return math.nan


def _put_notes(owners: Mapping[int, StoredStudy | StoredTrial], rows: _Rows) -> None:
    """Put user attributes; one that is no JSON is left out, as nothing is learned from it."""
    for _, number, key, text in rows:
        if (owner := owners.get(number)) and isinstance(key, str):
            with suppress(ValueError):
                owner.user_attributes[encodable(key)] = parse_json(text)


def _put_params(trials: _Trials, rows: _Rows) -> None:
    # This loop runs hundreds of thousands of times. The rows of a trial mostly follow one another.
    latest: int | None = None
    found: tuple[StoredStudy, StoredTrial] | None = None
    for _, trial_id, name, internal, text in rows:
        if trial_id != latest:
            latest, found = trial_id, trials.get(trial_id)
        if found is not None:
            put_param(*found, name, internal, text)
