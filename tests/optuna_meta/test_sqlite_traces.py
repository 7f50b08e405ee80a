"""SQLite histories are read without a trace, whatever their owners do meanwhile."""

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from metahpo.archive import SourceError
from optuna_meta import sqlite_file
from optuna_meta.storage import read_tasks


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "hpo.db"
    study = optuna.create_study(storage=RDBStorage(f"sqlite:///{path}"), study_name="mnist")
    study.optimize(objective, n_trials=3)
    study._storage.remove_session()
    return path


@pytest.fixture(params=["delete", "wal", "truncate", "persist"])
def mode(request) -> str:
    return request.param


@pytest.fixture
def path(template, tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    return Path(shutil.copy(template, tmp_path / "folder" / "hpo.db"))


def set_mode(path: Path, mode: str) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    connection.close()


def snapshot(path: Path) -> dict[str, tuple]:
    """Every file in the folder, with its bytes and times."""
    return {
        found.name: (found.read_bytes(), found.stat().st_mtime_ns, found.stat().st_ino)
        for found in path.parent.iterdir()
        # Shared memory of those that have the database open changes with their locks alone.
        if not found.name.endswith("-shm")
    } | {found.name: () for found in path.parent.iterdir() if found.name.endswith("-shm")}


def check_reading(path: Path, n_trials: int = 3) -> None:
    before = snapshot(path)
    for source in (str(path), f"sqlite:///{path}"):
        (task,) = read_tasks(source)
        assert len(task.trials) == n_trials
    assert snapshot(path) == before


ADD = "INSERT INTO trials (number, study_id, state) VALUES (3, 1, 'FAIL')"
# Writes as the owner of a database, says so, and waits to be told or killed.
OWNER = f"""
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement.replace("ADD", {ADD!r})).fetchall()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def owner(path):
    """Starts processes that have the database open."""
    started: list[subprocess.Popen] = []

    def start(*statements: str) -> subprocess.Popen:
        command = [sys.executable, "-c", OWNER, str(path), *statements]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_closed_database_is_left_as_it_is(path, mode):
    set_mode(path, mode)
    check_reading(path)


def test_a_database_that_its_owner_has_open_is_left_as_it_is(path, mode, owner):
    set_mode(path, mode)
    owner("ADD")
    check_reading(path, n_trials=4)


def test_a_transaction_in_progress_is_not_read(path, mode, owner):
    set_mode(path, mode)
    owner("BEGIN IMMEDIATE", "ADD")
    check_reading(path)


def test_an_exclusive_lock_does_not_keep_a_reader_out(path, mode, owner):
    set_mode(path, mode)
    owner("PRAGMA locking_mode=EXCLUSIVE", "ADD")
    check_reading(path, n_trials=4)


def test_what_a_killed_owner_left_is_rolled_back_in_the_copy_alone(path, mode, owner):
    set_mode(path, mode)
    # A small cache spills the transaction into the file before it is committed.
    statements = ["PRAGMA cache_size=1", "BEGIN", *["ADD"] * 400]
    process = owner(*statements)
    process.kill()
    process.communicate()
    assert len(snapshot(path)) > 1
    check_reading(path)


def test_the_owner_goes_on_after_another_user_has_read(path, owner):
    set_mode(path, "wal")
    read_tasks(str(path))
    connection = sqlite3.connect(path)
    connection.execute(ADD)
    connection.commit()
    connection.close()
    assert len(read_tasks(str(path))[0].trials) == 4


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("write", ["delete", "wal"])
def test_another_user_without_any_right_to_write_reads(path, write):
    set_mode(path, write)
    path.parent.chmod(0o555)
    path.chmod(0o444)
    folder = path.parent
    while folder != folder.parent and folder.stat().st_uid == 0 and folder != Path("/tmp"):
        folder.chmod(folder.stat().st_mode | 0o555)
        folder = folder.parent
    before = snapshot(path)
    program = (
        "import sys; from optuna_meta.storage import read_tasks; import os; os.setuid(65534); "
        "print(len(read_tasks(sys.argv[1])[0].trials))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
    assert snapshot(path) == before


def test_locks_of_this_process_survive_reading(path, owner):
    set_mode(path, "delete")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    read_tasks(str(path))
    # Another process must still find it locked: POSIX drops a process's locks with any close.
    program = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert "database is locked" in done.stderr
    connection.execute("ROLLBACK")
    connection.close()


def test_a_database_that_is_written_without_a_pause_is_one_clear_error(path, monkeypatch):
    set_mode(path, "wal")
    monkeypatch.setattr(sqlite_file, "_TRIES", 2)
    monkeypatch.setattr(sqlite_file, "_PAUSE", 0.0)
    states = iter(range(10**6))
    monkeypatch.setattr(sqlite_file, "_state", lambda path: (next(states),))
    with pytest.raises(SourceError, match=r"hpo\.db: it is being written without a pause"):
        read_tasks(str(path))


def test_files_that_are_no_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        for source in (str(tmp_path / name), f"sqlite:///{tmp_path / name}"):
            with pytest.raises(SourceError, match=r"neither a storage URL nor|there is no file"):
                read_tasks(source)


def test_threads_that_read_one_file_leave_no_descriptor_open(path):
    def read(_) -> bytes:
        return sqlite_file.head(path, 16)

    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, range(500))) == {sqlite_file.MAGIC}
    finally:
        sys.setswitchinterval(former)
    found = path.stat()
    assert (found.st_dev, found.st_ino) not in sqlite_file._open_files
    assert not sqlite_file._is_open_elsewhere(-1, found)


def test_a_descriptor_is_closed_once_nobody_else_has_the_file_open(path):
    with path.open("rb"):
        sqlite_file.head(path)
        found = path.stat()
        assert (found.st_dev, found.st_ino) in sqlite_file._open_files
    sqlite_file.head(path)
    assert not sqlite_file._is_open_elsewhere(-1, found)
