"""Journals with broken and hostile lines: what is whole is read as Optuna itself reads it."""

import json
import random
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState, create_trial
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

from metahpo.archive import EmptySourceError, ReadOptions, SourceWarning
from metahpo.tasks.task import Task
from optuna_meta import MetaSampler, journal
from optuna_meta.storage import OptunaReader, read_tasks
from optuna_meta.study_task import TASK_ATTR

SHORT, LONG = 100, 5000
X = optuna.distributions.FloatDistribution(-1, 1)


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    trial.suggest_categorical("c", ["a", None, 3])
    trial.report(x, 0)
    trial.report(x**2, 1)
    if trial.number == 2:
        raise optuna.TrialPruned
    return x**2


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("journals") / "template.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(storage=storage, study_name="deleted").optimize(objective, n_trials=2)
    optuna.delete_study(study_name="deleted", storage=storage)
    for name in ("good", "hurt"):
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name=name, sampler=sampler)
        study.set_user_attr("note", "long " * 100)
        study.enqueue_trial({"x": 0.5})
        study.optimize(objective, n_trials=5)
        study._storage.set_study_system_attr(study._study_id, TASK_ATTR, {"rows": 10})
        study.add_trial(create_trial(value=1.0, params={"x": 0.1}, distributions={"x": X},
                                     intermediate_values={3: 0.5}))  # fmt: skip
        study.add_trial(create_trial(state=TrialState.FAIL))
        study.ask({"x": X})
    return path


@pytest.fixture
def path(template, tmp_path) -> Path:
    (tmp_path / "journal").write_bytes(template.read_bytes())
    return tmp_path / "journal"


def read(path: Path) -> list:
    return read_carefully(lambda: read_tasks(str(path)))


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def first_line(path: Path, op: int, trial: int | None = None) -> int:
    logs = list(map(json.loads, lines(path)))
    return next(n for n, log in enumerate(logs)
                if log["op_code"] == op and trial in (None, log.get("trial_id")))  # fmt: skip


def replace_line(path: Path, number: int, line: bytes) -> None:
    every = lines(path)
    every[number] = line
    path.write_bytes(b"".join(every))


def test_a_journal_is_read_as_optuna_itself_reads_it(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    here, there = read_tasks(str(path)), read_tasks(storage)
    assert [task.name for task in here] == ["good", "hurt"]
    for one, other in zip(here, there, strict=True):
        assert one.trials == other.trials
        assert (one.space, one.metafeatures, one.created) == (
            other.space,
            other.metafeatures,
            other.created,
        )


def ended(task: Task) -> list:
    """The trials that no line without a trial can have belonged to."""
    return [trial for trial in task.trials if trial not in task.running]


HOSTILE = {
    "op_code": [None, -1, 99, "4", [], True, 10**400],
    "study_id": [None, -1, 10**9, "x", 1.5, True],
    "trial_id": [None, -1, 10**9, "x", 1.5, False],
    "study_name": [*TEXTS[:3], "\ud800", "\x1b[2J"],
    "directions": [None, [], [1, 2], ["x"], [9], "1", [None]],
    "system_attr": [None, {}, [], {TASK_ATTR: None}, {TASK_ATTR: [1]}, {TASK_ATTR: {"a": 1e999}},
                    {TASK_ATTR: {"\ud800": 10**400}}],
    "param_name": [None, 5, [], "\ud800"],
    "param_value_internal": [v for v in NUMBERS if not isinstance(v, bytes)] + [[], {}, 10**400],
    "distribution": [*DISTRIBUTIONS, None, 5, {}],
    "distributions": [None, [], {"x": "{"}, {"x": None}],
    "params": [None, [], {"y": 1}, {"x": "text"}],
    "intermediate_values": [None, [], {"a": 1}, {"1": "x"}, {"1": None}],
    "step": [None, "x", 1.5, 10**400, []],
    "intermediate_value": [None, "x", [], 10**400, 1e999],
    "values": [None, [], ["x"], [None], [1, 2], {"a": 1}, "12", [10**400], [1e999]],
    "state": [s for s in STATES if not isinstance(s, bytes)] + [-1, 99, 1.5, []],
    "datetime_start": [d for d in DATES if not isinstance(d, bytes)],
    "datetime_complete": [d for d in DATES if not isinstance(d, bytes)],
    "worker_id": [None, 5],
}  # fmt: skip
RAW = [b"", b"{", b"null", b"[]", b"5", b'"x"', b"\xff\xfe", b"{}", b"\x00" * 50, DEEP.encode(),
       b'{"op_code":2,' + b"x" * 3_000_000, b'{"op_code":4,"study_id":1',
       b"x" * 3_000_000]  # fmt: skip


def break_a_line(content: list[bytes], numbers: random.Random) -> None:
    """Give one line of the study "hurt", whose lines are the last, a wrong entry."""
    number = numbers.randrange(len(content) // 2 + 10, len(content))
    if numbers.random() < 0.3:
        content[number] = numbers.choice(RAW) + numbers.choice([b"\n", b"\n", b""])
        return
    try:
        log = json.loads(content[number])
        name = numbers.choice([key for key in HOSTILE if key in log])
    except (ValueError, TypeError, IndexError, RecursionError):
        return
    if numbers.random() < 0.2:
        del log[name]
    else:
        log[name] = numbers.choice(HOSTILE[name])
    content[number] = json.dumps(log).encode() + b"\n"


def check_lines(template: Path, path: Path, seeds: range) -> None:
    content = lines(template)
    good = read_tasks(str(template))[0]
    for seed in seeds:
        numbers = random.Random(seed)
        broken = list(content)
        for _ in range(numbers.randint(1, 3)):
            break_a_line(broken, numbers)
        path.write_bytes(b"".join(broken))
        tasks = read(path)
        assert ended(tasks[0]) == ended(good)
        assert list(path.parent.iterdir()) == [path]
        # Half of them at random bytes, where no study is known to be whole.
        path.write_bytes(mutated(b"".join(content), numbers))
        read(path)


def test_broken_lines_cost_trials_and_studies_and_nothing_else(template, path):
    """``SHORT`` journals with one to three broken lines, and as many with wrong bytes."""
    check_lines(template, path, range(SHORT))


@pytest.mark.slow
def test_many_broken_lines_cost_trials_and_studies_and_nothing_else(template, path):
    check_lines(template, path, range(SHORT, SHORT + LONG))


def test_a_broken_line_costs_its_trial(path):
    number = first_line(path, op=7, trial=4)
    log = json.loads(lines(path)[number])
    replace_line(path, number, json.dumps(log | {"intermediate_value": "x"}).encode() + b"\n")
    expected = (
        rf"'good' \(1 trial is broken.*skipped 1 broken line, the first is line {number + 1}"
    )
    with pytest.warns(SourceWarning, match=expected):
        good, hurt = read_tasks(str(path))
    assert (len(good.trials), len(hurt.trials)) == (7, 8)


def test_a_broken_line_that_created_a_trial_keeps_the_numbers_of_others(path, template):
    number = first_line(path, op=4)
    # The third trial of the journal: the first of "good".
    number = [n for n, log in enumerate(map(json.loads, lines(path))) if log["op_code"] == 4][2]
    replace_line(path, number, lines(path)[number][:40] + b"\n")
    with pytest.warns(SourceWarning, match="1 broken line"):
        good, hurt = read_tasks(str(path))
    whole, other = read_tasks(str(template))
    assert good.trials == whole.trials[1:]
    assert hurt == type(hurt)(**{**vars(other), "source": hurt.source})


def test_nothing_is_guessed_after_a_line_that_may_have_created_a_trial(path, template):
    # A report of the third trial of "good", which was running then.
    replace_line(path, first_line(path, op=7, trial=4), b"\x00" * 80 + b"\n")
    with pytest.warns(SourceWarning, match="what was created after it"):
        (good,) = read_tasks(str(path))
    assert good.trials == read_tasks(str(template))[0].trials[:2]


def test_half_a_line_of_a_killed_writer_is_skipped(path, template):
    """Optuna itself reads no journal any more whose writer was killed at the wrong moment."""
    whole = lines(template)
    path.write_bytes(b"".join(whole[:-1]) + whole[-2][:30] + whole[-1])
    hurt = read(path)[-1]
    assert hurt.trials == read_tasks(str(template))[-1].trials
    path.write_bytes(b"".join(whole) + whole[-1][:30])
    assert read_tasks(str(path))[-1].trials == hurt.trials


def test_a_journal_without_a_whole_study_is_empty(path):
    path.write_bytes(b'{"op_code": 0}\n' * 3)
    with pytest.warns(SourceWarning, match="3 broken lines"), pytest.raises(EmptySourceError):
        OptunaReader().read(str(path), ReadOptions())


def test_a_study_beside_broken_lines_still_gets_suggestions(path):
    every, numbers = lines(path), random.Random(1)
    for _ in range(10):
        break_a_line(every, numbers)
    path.write_bytes(b"".join(every))
    study = optuna.create_study(sampler=MetaSampler(history=str(path), seed=0))
    with pytest.warns(SourceWarning, match="broken line"):
        study.optimize(objective, n_trials=1)
    assert len(study.trials) == 1


@pytest.mark.parametrize(("limit", "value"), [("MOST_ROWS", 30), ("LONGEST_READ", -1.0)])
def test_reading_a_journal_is_bounded(path, monkeypatch, limit, value):
    path.write_bytes(b"".join(lines(path)[:4]) + lines(path)[4] * 1000)
    monkeypatch.setattr(journal, limit, value)
    with pytest.warns(SourceWarning, match="skipped the lines from"):
        read_tasks(str(path))
