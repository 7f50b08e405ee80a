"""Tasks keep their identity, and everything else, wherever they are collected from and to."""

import itertools

import pytest
from optuna.distributions import FloatDistribution

from metahpo import Archive, Space, Task, Trial
from metahpo.archive.display_names import with_unique_names
from metahpo.archive.sources import read_history
from metahpo.suggest.history import History

SPACE = Space({"x": FloatDistribution(0, 1)})


def task(name: str, created: float | None, steps: tuple = ()) -> Task:
    curve = tuple((step, 0.5) for step in steps)
    return Task(name, SPACE, (Trial({"x": 0.5}, 1.0, curve=curve),), created=created)


# Some share a name and a second, some have no time, one is named as another is shown.
TASKS = [
    task("mnist", 1.7e9),
    task("mnist", 1.7e9 + 0.25),
    task("mnist", 1.8e9),
    task("mnist", None),
    task("mnist @ 2027-01-15 08:00:00", 1.8e9),
    task("cifar", -1e9),
    task("cifar", 253402214400.0),
    task("", None),
]


@pytest.fixture
def archive(tmp_path) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.extend(TASKS)
    return archive


def key(task: Task) -> tuple[str, str]:
    return task.name, repr(task.created)


def test_tasks_are_read_under_their_own_names(archive):
    assert sorted(archive.tasks(), key=key) == sorted(TASKS, key=key)


@pytest.mark.parametrize("read", [Archive.tasks, read_history, lambda a: read_history(a.path)])
def test_an_archive_that_is_collected_into_itself_stays_as_it_is(archive, read):
    for _ in range(3):
        assert archive.extend(read(archive)) == {"unchanged": len(TASKS)}
    assert len(archive) == len(archive.tasks()) == len(TASKS)


def test_archives_that_are_collected_into_each_other_have_each_task_once(archive, tmp_path):
    other = Archive(tmp_path / "other")
    other.extend([*TASKS[:4], task("new", 1.7e9)])
    for _ in range(3):
        other.extend(archive)
        archive.extend(other)
    assert len(archive) == len(other) == len(TASKS) + 1
    assert archive.tasks() == other.tasks()


def test_shown_names_are_unique_and_find_their_task(archive):
    names = archive.names()
    assert len(set(names)) == len(TASKS)
    assert [archive.task(name) for name in names] == archive.tasks()


def test_a_history_shows_unique_names_whatever_its_sources():
    shown = [task.name for task in History([*TASKS, *TASKS])]
    assert len(set(shown)) == 2 * len(TASKS)
    assert shown[0] == "mnist"
    assert shown[2] == "mnist @ 2027-01-15 08:00:00"


@pytest.mark.parametrize("created", [None, 1e300, float("nan"), float("-inf"), -62135596801.0])
def test_what_is_no_date_is_shown_by_number(created):
    same = [Task("same", SPACE, created=created)] * 10_000
    names = [task.name for task in with_unique_names(same)]
    assert names[:3] == ["same", "same (2)", "same (3)"]
    assert len(set(names)) == 10_000


@pytest.mark.parametrize(
    "steps", [(1, 2, 3), (0.5, 1.5), (1.0, 2.0), (0,), (-1, 2**53), (0, 1.5), (2**53 + 1,)]
)
def test_steps_keep_their_type(tmp_path, steps):
    archive = Archive(tmp_path / "archive")
    archive.add(task("t", None, steps))
    ((trial,),) = (read.trials for read in archive)
    read = [step for step, _ in trial.curve]
    assert read == [float(step) for step in steps]
    kinds = {type(step) for step in steps}
    is_exact = all(abs(step) <= 2**53 for step in steps)
    assert {type(step) for step in read} == (kinds if len(kinds) == 1 and is_exact else {float})
    assert archive.extend(archive) == {"unchanged": 1}


def test_steps_of_either_type_are_kept_task_by_task(tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.extend([task("whole", None, (1, 2)), task("seconds", None, (1.0, 2.0))])
    steps = [step for task in archive for step, _ in task.trials[0].curve]
    assert [type(step) for step in steps] == [float, float, int, int]


def test_nothing_differs_after_any_number_of_archives(tmp_path):
    archives = [Archive(tmp_path / str(number)) for number in range(4)]
    archives[0].extend([*TASKS, task("curve", 1e9, (1, 2))])
    for source, target in itertools.pairwise(archives):
        target.extend(source)
    assert archives[3].tasks() == archives[0].tasks()
    names = [sorted(p.name for p in (tmp_path / str(n)).iterdir()) for n in (0, 3)]
    assert names[0] == names[1]
