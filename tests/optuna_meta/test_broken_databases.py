"""Databases with wrong rows, wrong bytes and hostile schemas: what is whole is still read."""

import random
import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from support.hostile import (
    DATES,
    DEEP,
    DISTRIBUTIONS,
    NUMBERS,
    STATES,
    TEXTS,
    mutated,
    read_carefully,
)

from metahpo.archive import SourceError, SourceWarning
from optuna_meta import MetaSampler, database, sqlite_bounds
from optuna_meta.storage import read_tasks
from optuna_meta.study_task import TASK_ATTR

SHORT, LONG = 150, 2000
SHORT_BYTES, LONG_BYTES = 60, 2000

TABLES = {
    "studies": "study_id",
    "study_directions": "study_id",
    "study_system_attributes": "study_id",
    "trials": "study_id",
    "trial_values": "trial_id",
    "trial_intermediate_values": "trial_id",
    "trial_params": "trial_id",
    "trial_system_attributes": "trial_id",
}
# What each column may hold instead.
HOSTILE = {
    ("studies", "study_name"): TEXTS,
    ("study_directions", "direction"): [None, "", "UP", "NOT_SET", 1, b"\xff"],
    ("study_system_attributes", "value_json"): [None, "", "{", "null", "[1]", DEEP, b"\xff", 7,
        '{"a": Infinity, "b": 1e400, "c": NaN, "d": {"e": 1}, "f": true}', "x" * 3_000_000,
        '{"a": 1' + "0" * 400 + "}", '{"\\ud800": 1}'],
    ("trials", "state"): STATES,
    ("trials", "datetime_start"): DATES,
    ("trials", "datetime_complete"): DATES,
    ("trials", "study_id"): [None, -1, 10**6, "x"],
    ("trial_values", "value"): NUMBERS,
    ("trial_values", "value_type"): [None, "", "INF", "INF_POS", "NAN", 5],
    ("trial_intermediate_values", "step"): NUMBERS,
    ("trial_intermediate_values", "intermediate_value"): NUMBERS,
    ("trial_params", "param_name"): TEXTS,
    ("trial_params", "param_value"): NUMBERS,
    ("trial_params", "distribution_json"): [*DISTRIBUTIONS, *TEXTS],
    ("trial_system_attributes", "value_json"): [None, "", "{", DEEP, b"\xff", 7, '["a", [], {}]',
        "1e400", "x" * 3_000_000],
}  # fmt: skip


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    trial.set_constraint("small", x - 0.9)
    trial.suggest_int("n", 1, 4)
    trial.suggest_categorical("c", ["a", "b", None])
    for step in range(2):
        trial.report(x**2 + step, step)
    return x**2


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A database of two equal studies without any constraint of SQL's, so that it takes all."""
    folder = tmp_path_factory.mktemp("broken")
    storage = RDBStorage(f"sqlite:///{folder / 'strict.db'}")
    for name in ("good", "hurt"):
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name=name, sampler=sampler)
        study.optimize(objective, n_trials=6)
        study._storage.set_study_system_attr(study._study_id, TASK_ATTR, {"rows": 10})
    with sqlite3.connect(folder / "template.db") as connection:
        connection.execute("ATTACH ? AS strict", (str(folder / "strict.db"),))
        for table, owner in TABLES.items():
            connection.execute(f"CREATE TABLE main.{table} AS SELECT * FROM strict.{table}")
            connection.execute(f"CREATE INDEX main.of_{table} ON {table} ({owner})")
    connection.close()
    return folder / "template.db"


@pytest.fixture
def path(template, tmp_path) -> Path:
    return Path(shutil.copy(template, tmp_path / "hpo.db"))


def change(path: Path, *statements: tuple) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(*statement)
    connection.close()


def add_broken_studies(path: Path, count: int, seed: int) -> None:
    """Copies of the study "hurt", each with one to three wrong entries of some kind."""
    numbers = random.Random(seed)
    kinds = list(HOSTILE)
    with sqlite3.connect(path) as connection:
        columns = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")]
                   for t in TABLES}  # fmt: skip
        for copy in range(3, count + 3):
            for table in TABLES:
                # Ids of copies: 2 -> copy, trial t -> 1000 * copy + t.
                terms = {"study_id": str(copy), "trial_id": f"trial_id + {1000 * copy}",
                         "study_name": f"'hurt {copy}'"}  # fmt: skip
                chosen = ", ".join(terms.get(c, c) for c in columns[table])
                where = "study_id = 2"
                if TABLES[table] == "trial_id":
                    where = "trial_id IN (SELECT trial_id FROM trials WHERE study_id = 2)"
                names = ", ".join(columns[table])
                connection.execute(
                    f"INSERT INTO {table} ({names}) SELECT {chosen} FROM {table} WHERE {where}"
                )
            for _ in range(numbers.randint(1, 3)):
                table, column = kinds[copy % len(kinds)] if _ == 0 else numbers.choice(kinds)
                owner = copy if TABLES[table] == "study_id" else 1000 * copy + 7
                value = numbers.choice(HOSTILE[table, column])
                text = isinstance(value, bytes) and numbers.random() < 0.5
                place = "CAST(? AS TEXT)" if text else "?"
                last = numbers.randrange(6)
                connection.execute(
                    f"UPDATE {table} SET {column} = {place} WHERE rowid IN (SELECT rowid FROM "
                    f"{table} WHERE {TABLES[table]} >= ? AND {TABLES[table]} < ? LIMIT 1 "
                    "OFFSET ?)",
                    (value, owner, owner + (6 if TABLES[table] == "trial_id" else 1), last),
                )
    connection.close()


def check_rows(path: Path, count: int, seed: int) -> list:
    (expected,) = (t for t in read_tasks(str(path)) if t.name == "good")
    add_broken_studies(path, count, seed)
    tasks = read_carefully(lambda: read_tasks(str(path)))
    assert [t for t in tasks if t.name == "good"][:1] == [expected]
    # A wrong row costs its trial: most of the copies are still there, with most of their trials.
    assert len(tasks) > count / 2
    return tasks


def test_wrong_rows_cost_trials_and_studies_and_nothing_else(path):
    """``SHORT`` broken studies, of one to three wrong entries."""
    check_rows(path, SHORT, seed=0)


def test_a_study_beside_broken_ones_still_gets_suggestions(path):
    add_broken_studies(path, 10, seed=5)
    study = optuna.create_study(sampler=MetaSampler(history=str(path), seed=0))
    with pytest.warns(SourceWarning, match="skipped"):
        study.optimize(objective, n_trials=1)
    assert len(study.trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_wrong_rows_cost_trials_and_studies_and_nothing_else(path, seed):
    """Three times ``LONG`` broken studies."""
    check_rows(path, LONG, seed)


def check_bytes(template: Path, path: Path, seeds: range) -> None:
    content = template.read_bytes()
    for seed in seeds:
        path.write_bytes(mutated(content, random.Random(seed)))
        read_carefully(lambda: read_tasks(f"sqlite:///{path}"))


def test_wrong_bytes_are_one_clear_error_or_skipped(template, path):
    check_bytes(template, path, range(SHORT_BYTES))


@pytest.mark.slow
def test_many_wrong_bytes_are_one_clear_error_or_skipped(template, path):
    check_bytes(template, path, range(SHORT_BYTES, SHORT_BYTES + LONG_BYTES))


def test_one_wrong_row_costs_one_trial(path):
    change(path, ("UPDATE trial_values SET value = 'x' WHERE trial_id = 8",))
    with pytest.warns(
        SourceWarning,
        match=r"^skipped broken trials of 1 study.*'hurt' \(1 trial is broken: .*'x'",
    ):
        good, hurt = read_tasks(str(path))
    assert (len(good.trials), len(hurt.trials)) == (6, 5)


def test_texts_that_do_not_decode_are_read_with_marks(path):
    change(path, ("UPDATE studies SET study_name = CAST(x'6162ff' AS TEXT) WHERE study_id = 2",))
    assert [task.name for task in read_tasks(str(path))] == ["good", "ab\ufffd"]


def test_an_unreadable_row_of_another_study_does_not_stop_a_new_one(tmp_path):
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    for name in ("first", "second"):
        optuna.create_study(storage=url, study_name=name).optimize(objective, n_trials=3)
    unknown = '{"name": "TernaryDistribution", "attributes": {}}'
    statement = "UPDATE trial_params SET distribution_json = ? WHERE trial_id = 5"
    change(tmp_path / "hpo.db", (statement, (unknown,)))
    study = optuna.create_study(storage=url, sampler=MetaSampler(seed=0))
    with pytest.warns(SourceWarning, match=r"'second' \(1 trial is broken.*TernaryDistribution"):
        study.optimize(objective, n_trials=1)
    assert len(study.trials) == 1


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


@pytest.mark.parametrize(
    "schema",
    [
        f"CREATE VIEW trials AS {ENDLESS} SELECT x AS trial_id, 1 AS study_id, "
        "'COMPLETE' AS state, NULL AS datetime_start, NULL AS datetime_complete FROM c",
        "CREATE VIRTUAL TABLE trials USING fts5(trial_id, study_id, state, datetime_start)",
        "CREATE TABLE trials (trial_id, study_id, datetime_start, datetime_complete, "
        "state GENERATED ALWAYS AS (hex(zeroblob(400000000))))",
    ],
)
def test_tables_that_are_computed_are_not_read(path, schema):
    change(path, ("DROP TABLE trials",), (schema,))
    with pytest.raises(SourceError, match="computed"):
        read_tasks(str(path))


def test_reading_ends_after_a_time(path, monkeypatch):
    monkeypatch.setattr(sqlite_bounds, "LONGEST_READ", 0.0)
    monkeypatch.setattr(sqlite_bounds, "_INSTRUCTIONS", 1)
    with pytest.raises(SourceError, match="longer than 0 seconds"):
        read_tasks(str(path))


def test_studies_with_too_many_rows_are_left_out_the_oldest_first(path, monkeypatch):
    # Six trials of a value, two reports, three parameters and a constraint each, in each study.
    monkeypatch.setattr(database, "MOST_ROWS", 50)
    with pytest.warns(SourceWarning, match=r"'good' \(50 rows are read, it has 48\)"):
        assert [task.name for task in read_tasks(str(path))] == ["hurt"]


def test_any_number_of_studies_is_read_from_a_database_with_too_many_rows(path, monkeypatch):
    monkeypatch.setattr(database, "MOST_ROWS", 50)
    # More identifiers than SQLite takes as parameters of one statement.
    rows = ",".join(f"({number}, 'empty {number}')" for number in range(100, 40_000))
    change(path, (f"INSERT INTO studies (study_id, study_name) VALUES {rows}",))
    with pytest.warns(SourceWarning, match="50 rows are read"):
        assert "hurt" in [task.name for task in read_tasks(str(path))]


def test_constraints_count_among_the_rows(path, monkeypatch):
    # Both studies together have 84 rows without their 12 constraints.
    monkeypatch.setattr(database, "MOST_ROWS", 90)
    with pytest.warns(SourceWarning, match="90 rows are read"):
        read_tasks(str(path))


def test_a_trial_that_is_left_out_does_not_shape_the_space(path):
    wide = '{"name": "FloatDistribution", "attributes": {"step": null, "low": -9.0, "high": 9.0, '
    wide += '"log": false}}'
    (trial,) = sqlite3.connect(path).execute("SELECT max(trial_id) FROM trials").fetchone()
    change(
        path,
        ("UPDATE trial_params SET distribution_json = ? WHERE trial_id = ? AND param_name = 'x'",
         (wide, trial)),
        ("UPDATE trials SET state = 'NO STATE' WHERE trial_id = ?", (trial,)),
    )  # fmt: skip
    with pytest.warns(SourceWarning, match="1 trial is broken"):
        *_, hurt = read_tasks(str(path))
    assert hurt.space.distributions["x"].low == -1
    assert set(hurt.space) == {"x", "n", "c"}
