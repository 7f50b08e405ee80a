"""Archives beside other writers: no task is lost, whoever writes, reads or is killed when."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from support.interleavings import Actor, all_schedules, random_schedules, run
from support.stepped_files import CopyingFiles, RenamingFiles, SteppedFiles

from metahpo import Archive, Space, Task, Trial
from metahpo.archive import ArchiveError, ArchiveWarning, folder_reading, limits
from metahpo.archive import archive as archive_module
from metahpo.archive.file_names import FileName
from metahpo.archive.task_file import read_task
from metahpo.archive.task_table import to_table
from optuna_meta import MetaSampler

SPACE = Space({"x": FloatDistribution(0, 1)})
FOLDER = "/archive"


def version(number: int) -> Task:
    """A version of one task, told by the value of its trial."""
    return Task("shared", SPACE, (Trial({"x": 0.5}, float(number)),), created=1.7e9)


def number_of(task: Task) -> int:
    (trial,) = task.trials
    assert trial.value is not None
    return int(trial.value)


class World:
    """An archive in memory, with what has ever been complete in it."""

    def __init__(self, monkeypatch, kind: type[SteppedFiles]) -> None:
        self._monkeypatch = monkeypatch
        self._kind = kind
        self._versions: dict[bytes, tuple] = {}
        self._files: dict[int, dict] = {}
        # One thread: the order of its reads is that of the files.
        monkeypatch.setattr(folder_reading, "_READERS", 1)

    def reset(self, *present: int) -> None:
        """Empty the archive, and put versions into it that no writer has seen together."""
        kept = {}
        for number in present:
            if number not in self._files:
                SteppedFiles.store.clear()
                self.archive().add(version(number))
                self._files[number] = dict(SteppedFiles.store)
            kept |= self._files[number]
        SteppedFiles.store.clear()
        SteppedFiles.store.update(kept)
        SteppedFiles.pseudo_dirs[:] = ["", FOLDER]
        self._versions.clear()
        self.newest = self.latest()

    def archive(self, turn=lambda: None) -> Archive:
        opened = self._kind(turn)
        self._monkeypatch.setattr(fsspec, "url_to_fs", lambda _: (opened, FOLDER))
        return Archive("memory://archive")

    def writer(self, number: int) -> Actor:
        return lambda turn: self.archive(turn).add(version(number))

    def latest(self) -> tuple:
        """What a reader sees at this instant: the version that counts, by the archive's order."""
        contents = ((path, SteppedFiles.store[path].getvalue()) for path in self.finished())
        return max((self._read(path, content) for path, content in contents), default=())

    def finished(self) -> list[str]:
        return [path for path in SteppedFiles.store if not Path(path).name.startswith(".")]

    def _read(self, path: str, content: bytes) -> tuple:
        if content not in self._versions:
            archived = read_task(content, FileName.parse(Path(path).name))
            self._versions[content] = (archived.version, number_of(archived.task))
        return self._versions[content]

    def version_of(self, number: int) -> tuple:
        return max(version for version in self._versions.values() if version[1] == number)

    def check(self) -> None:
        """No task is ever gone, and what has replaced another version stays or is replaced.

        Of first versions that are written at once, any may count.
        """
        seen = self.latest()
        assert bool(seen) >= bool(self.newest)
        if self.newest and self.newest[0][1]:
            assert seen >= self.newest
        self.newest = seen


def check_writers(world: World, schedules, numbers=(0, 1), deaths=None) -> int:
    """Run writers of versions in each order; return how many orders there were."""
    count = 0
    deaths = deaths or itertools.repeat(None)
    for count, (choose, killed_at) in enumerate(zip(schedules, deaths, strict=False), start=1):
        world.reset(0, 1)
        run([world.writer(n) for n in numbers], choose, world.check, killed_at)
        assert world.newest
        if count % 10 == 1:
            # The next writer leaves one file, whatever these have left.
            world.archive().add(version(9))
            assert [number_of(task) for task in world.archive()] == [9]
            assert len(world.finished()) == 1
    return count


# ---- every order ---------------------------------------------------------------------------


def test_no_order_of_two_writers_loses_a_task(monkeypatch):
    # With files of both versions present, each writer lists, writes, and removes two or three.
    assert check_writers(World(monkeypatch, SteppedFiles), all_schedules()) == 80


def test_no_order_of_writers_that_find_nothing_loses_a_task(monkeypatch):
    world = World(monkeypatch, SteppedFiles)
    for choose in random_schedules(30, seed=5):
        world.reset()
        run([world.writer(n) for n in (0, 1, 1)], choose, world.check)
        assert world.newest
        assert len(world.finished()) <= 2


@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles, CopyingFiles])
def test_no_sampled_order_of_three_writers_loses_a_task(monkeypatch, kind):
    check_writers(World(monkeypatch, kind), random_schedules(12, seed=0), (0, 1, 2))


@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles, CopyingFiles])
def test_no_killed_writer_loses_a_task(monkeypatch, kind):
    deaths = itertools.product(range(1, 6), [None, *range(1, 6)])
    check_writers(World(monkeypatch, kind), random_schedules(20, seed=1), (0, 1), deaths)


def check_reader(world: World, schedules, writers: int) -> None:
    """Run one reader beside writers; it sees what was newest when it began, or a later one."""
    for choose in schedules:
        world.reset(0)
        began: list[tuple] = []
        read: list[Task] = []

        def reader(turn, began=began, read=read) -> None:
            def step() -> None:
                turn()
                began.append(world.newest)

            read.extend(world.archive(step))

        run([reader, *(world.writer(n) for n in range(1, writers + 1))], choose, world.check)
        (task,) = read
        assert world.version_of(number_of(task)) >= began[0]


@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles])
def test_in_no_sampled_order_a_reader_misses_a_task(monkeypatch, kind):
    check_reader(World(monkeypatch, kind), random_schedules(20, seed=2), 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_in_no_order_a_reader_misses_a_task(monkeypatch):
    check_reader(World(monkeypatch, SteppedFiles), all_schedules(), 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles, CopyingFiles])
def test_no_order_of_two_or_sampled_order_of_three_writers_loses_a_task(monkeypatch, kind):
    world = World(monkeypatch, kind)
    check_writers(world, all_schedules())
    check_writers(world, random_schedules(1000, seed=3), (0, 1, 2))
    deaths = itertools.product(range(1, 6), range(1, 6), [None, *range(1, 6)])
    check_writers(world, random_schedules(300, seed=4), (0, 1, 2), itertools.cycle(deaths))


# ---- with latency --------------------------------------------------------------------------


def check_latency(monkeypatch, writers: int, rounds: int) -> None:
    """Writers meet on files of two versions of one task, each access taking a while."""
    rng = np.random.default_rng(0)
    delays = itertools.cycle(rng.exponential(0.003, 1000).tolist())
    world = World(monkeypatch, SteppedFiles)
    for _ in range(rounds):
        world.reset(0, 1)
        archives = [world.archive(lambda: time.sleep(next(delays))) for _ in range(writers)]
        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(Archive.add, archives, map(version, range(2, 2 + writers))))
        (task,) = world.archive().tasks()
        assert number_of(task) >= 2


@pytest.mark.parametrize(("writers", "rounds"), [(2, 10), (8, 5)])
def test_writers_lose_no_task_at_the_latency_of_an_object_store(monkeypatch, writers, rounds):
    check_latency(monkeypatch, writers, rounds)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("writers", [2, 8])
def test_writers_lose_no_task_in_many_rounds(monkeypatch, writers):
    check_latency(monkeypatch, writers, 300)


# ---- a reader beside steady writers --------------------------------------------------------


@pytest.mark.parametrize(("replacements", "is_found"), [(1, True), (19, True), (10**9, False)])
def test_a_reader_ends_beside_writers_that_never_rest(monkeypatch, replacements, is_found):
    world = World(monkeypatch, SteppedFiles)
    world.reset(0)
    world.archive().extend(Task(f"other {number}", SPACE) for number in range(3))
    others = (n for n in range(1, replacements + 1))
    archive = world.archive()
    writer = world.archive()
    listed = []

    def turn(writer=writer) -> None:
        listed.append(1)
        if (number := next(others, None)) is not None:
            writer.add(version(number))

    archive._place._files.turn = turn
    # Before each access of the reader, the task is replaced.
    with nullcontext() if is_found else pytest.warns(ArchiveWarning, match="replaced 20 times"):
        found = {task.name: task for task in archive}
    assert {f"other {number}" for number in range(3)} <= found.keys()
    assert ("shared" in found) is is_found
    assert len(listed) <= 2 * limits.ROUNDS + 4


def test_new_tasks_of_others_do_not_keep_a_reader(monkeypatch):
    world = World(monkeypatch, SteppedFiles)
    world.reset(0)
    archive, writer = world.archive(), world.archive()
    numbers = itertools.count()
    archive._place._files.turn = lambda: writer.add(Task(f"new {next(numbers)}", SPACE))
    assert {"shared", "new 0"} == {task.name for task in archive}


@pytest.mark.parametrize("removes", [True, False])
def test_a_writer_whose_clock_is_behind_replaces_what_it_saw(monkeypatch, removes):
    world = World(monkeypatch, SteppedFiles)
    world.reset(0)
    world.archive().add(version(1))
    if not removes:
        monkeypatch.setattr(SteppedFiles, "rm_file", lambda *_: None)
    for number in (2, 3):
        monkeypatch.setattr(archive_module, "time", SimpleNamespace(time=lambda: 1e9))
        assert world.archive().add(version(number)) == "replaced"
        assert [number_of(task) for task in world.archive()] == [number]


# ---- left-overs, full disks ----------------------------------------------------------------


def files(archive: Archive) -> list[str]:
    return sorted(path.name for path in Path(archive.path).iterdir())


@pytest.fixture
def local(tmp_path) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.add(version(0))
    return archive


KILLED = """
import os, signal, sys
from metahpo import Archive, Space, Task
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Archive(sys.argv[1]).add(Task("killed", Space({})))
"""


def test_what_killed_writers_leave_is_removed_after_a_day(local):
    own = [f".{uuid.uuid4().hex}.txt", ".notes.parquet", "_draft.parquet"]
    for name in own:
        Path(local.path, name).write_text("of a user")
    run_ended = subprocess.run([sys.executable, "-c", KILLED, local.path], check=False)
    assert run_ended.returncode == -signal.SIGKILL
    (left,) = set(files(local)) - {*own} - {p.name for p in Path(local.path).glob("[!._]*")}
    assert [number_of(task) for task in local] == [0]
    for name in [left, *own]:
        os.utime(Path(local.path, name), (time.time() - limits.LEFT_OVER + 100,) * 2)
    local.add(version(1))
    assert left in files(local)
    for name in [left, *own]:
        os.utime(Path(local.path, name), (time.time() - limits.LEFT_OVER - 100,) * 2)
    local.add(version(2))
    assert set(own) < set(files(local))
    assert len(files(local)) == len(own) + 1


def test_what_cannot_be_removed_is_skipped(monkeypatch):
    world = World(monkeypatch, SteppedFiles)
    world.reset(0, 1)
    monkeypatch.setattr(SteppedFiles, "rm_file", lambda *_: 1 / 0)
    assert world.archive().add(version(2)) == "replaced"
    assert [number_of(task) for task in world.archive()] == [2]
    assert len(world.finished()) == 3


@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles, CopyingFiles])
@pytest.mark.parametrize("step", range(5))
def test_a_full_disk_costs_nothing_that_was_there(monkeypatch, kind, step):
    world = World(monkeypatch, kind)
    world.reset(0)
    steps = itertools.count()

    def fill() -> None:
        if next(steps) >= step:
            raise OSError(errno.ENOSPC, "No space left on device")

    tasks = [version(1), *(Task(f"new {number}", SPACE) for number in range(3))]
    with pytest.raises(ArchiveError, match=r"cannot .* archive at .*No space left"):
        world.archive(fill).extend(tasks)
    assert number_of(world.archive().task("shared")) in (0, 1)
    world.archive().extend(tasks)
    assert world.archive().names() == ["new 0", "new 1", "new 2", "shared"]
    assert len(world.finished()) == 4


FULL = """
import resource, signal, sys
from metahpo import Archive, Space, Task
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
Archive(sys.argv[1]).add(Task("large", Space({})))
"""


def test_a_file_that_could_not_be_written_whole_leaves_nothing(local):
    before = files(local)
    ended = subprocess.run(
        [sys.executable, "-c", FULL, local.path], check=False, capture_output=True, text=True
    )
    assert "ArchiveError: cannot write to the archive at" in ended.stderr.splitlines()[-1]
    assert files(local) == before
    assert [number_of(task) for task in local] == [0]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_file_as_a_power_failure_leaves_is_written_again(local, kept):
    (name,) = files(local)
    path = Path(local.path, name)
    path.write_bytes(path.read_bytes()[:kept])
    assert local.add(version(0)) == "replaced"
    assert [number_of(task) for task in local] == [0]
    assert len(files(local)) == 1
    assert local.add(version(0)) == "unchanged"


def test_a_file_whose_content_was_changed_is_written_again(local):
    (name,) = files(local)
    Path(local.path, name).write_bytes(to_table(version(1)).to_parquet(1.0))
    assert local.add(version(0)) == "replaced"
    assert [number_of(task) for task in local] == [0]


# ---- many processes ------------------------------------------------------------------------

ADDING = """
import sys
from metahpo import Archive, Space, Task
archive, worker, count, at_once = Archive(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
for start in range(0, count, at_once):
    names = [f"{whose} {i}" for i in range(start, start + at_once)
             for whose in (f"own {worker}", "shared")]
    archive.extend(Task(name, Space({})) for name in names)
"""


def check_processes(path: str, workers: int, count: int, at_once: int) -> None:
    arguments = [sys.executable, "-c", ADDING, path]
    numbers = [str(count), str(at_once)]
    started = [subprocess.Popen([*arguments, str(i), *numbers]) for i in range(workers)]
    assert [process.wait() for process in started] == [0] * workers
    archive = Archive(path)
    assert len(archive.tasks()) == len(files(archive)) == workers * count + count


def test_no_task_is_lost_where_processes_add_at_once(tmp_path):
    check_processes(str(tmp_path / "archive"), 4, 10, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_task_of_sixteen_thousand_is_lost(tmp_path):
    # One listing of the folder, which grows to 9,000 files, serves fifty tasks.
    check_processes(str(tmp_path / "archive"), 8, 1000, 50)


# ---- readers write nothing -----------------------------------------------------------------


def test_a_history_is_never_written_to(local):
    local.extend([Task("other", SPACE), version(1)])
    Path(local.path, f".{uuid.uuid4().hex}.parquet").write_bytes(b"left over")
    for path in [*Path(local.path).iterdir(), Path(local.path)]:
        os.utime(path, (1e9, 1e9))
    before = snapshot(Path(local.path))
    with pytest.raises(ArchiveError, match="no task"):
        local.task("none")
    study = optuna.create_study(sampler=MetaSampler(history=local.path))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert snapshot(Path(local.path)) == before


def snapshot(folder: Path) -> dict:
    states = {path: path.stat() for path in [folder, *folder.iterdir()]}
    return {
        path: (state.st_mtime_ns, state.st_size, path.is_dir() or path.read_bytes())
        for path, state in states.items()
    }
