"""Archives beside other writers: no task is lost, whoever writes, reads or is killed when."""

import itertools
import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from optuna.distributions import FloatDistribution
from support.interleavings import Actor, all_schedules, random_schedules, run
from support.stepped_files import CopyingFiles, RenamingFiles, SteppedFiles

from metahpo import Archive, Space, Task, Trial
from metahpo.archive import ArchiveError, ArchiveWarning, folder_reading, limits
from metahpo.archive.file_names import FileName
from metahpo.archive.task_file import read_task

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

    def check(self) -> None:
        """No task is ever gone, and no version that replaced another is followed by an earlier one.

        Of first versions that are written at once, any may count.
        """
        seen = self.latest()
        assert bool(seen) >= bool(self.newest)
        if self.newest and self.newest[0][1]:
            assert seen >= self.newest
        self.newest = seen


def check_writers(world: World, schedules, numbers=(0, 1), deaths=itertools.repeat(None)) -> int:
    """Run writers of versions in each order; return how many orders there were."""
    count = 0
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
        seen: list[Task] = []

        def read(turn, world=world, seen=seen) -> None:
            archive = world.archive(turn)
            seen.append(version(world.newest[1]))
            seen.extend(archive.tasks())

        run([read, *(world.writer(n) for n in range(1, writers + 1))], choose, world.check)
        before, *after = seen
        assert len(after) == 1
        assert number_of(after[0]) >= 0
        # Versions are written in any order, but never again once they are replaced.
        if number_of(before) != 0:
            assert number_of(after[0]) != 0


@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles])
def test_in_no_sampled_order_a_reader_misses_a_task(monkeypatch, kind):
    check_reader(World(monkeypatch, kind), random_schedules(20, seed=2), 2)


@pytest.mark.slow
def test_in_no_order_a_reader_misses_a_task(monkeypatch):
    check_reader(World(monkeypatch, SteppedFiles), all_schedules(), 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SteppedFiles, RenamingFiles, CopyingFiles])
def test_no_order_of_two_or_sampled_order_of_three_writers_loses_a_task(monkeypatch, kind):
    world = World(monkeypatch, kind)
    check_writers(world, all_schedules())
    check_writers(world, random_schedules(3000, seed=3), (0, 1, 2))
    deaths = itertools.product(range(1, 6), range(1, 6), [None, *range(1, 6)])
    check_writers(world, random_schedules(1000, seed=4), (0, 1, 2), itertools.cycle(deaths))
