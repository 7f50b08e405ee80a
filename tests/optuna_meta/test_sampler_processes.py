"""MetaSampler in several processes: workers see each other's plans, and seeds reproduce."""

import multiprocessing
import time

import optuna
import pytest
from optuna.trial import TrialState

from metahpo import Space, Task, Trial
from optuna_meta import MetaSampler

WORKERS, TRIALS = 3, 3
SPACE = Space(
    {
        "x": optuna.distributions.FloatDistribution(-5, 5),
        "y": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
    }
)


def loss(x: float, y: float) -> float:
    return (x - 2) ** 2 + y


def past() -> Task:
    tried = [{"x": x / 2, "y": 10 ** -(i % 5)} for i, x in enumerate(range(-10, 11))]
    return Task("past", SPACE, tuple(Trial(c, -loss(**c)) for c in tried))


def objective(trial) -> float:
    return loss(trial.suggest_float("x", -5, 5), trial.suggest_float("y", 1e-4, 1, log=True))


def slow_objective(trial) -> float:
    value = objective(trial)
    time.sleep(0.1)
    return value


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _work(url: str, ready) -> None:
    _quiet()
    study = optuna.load_study(
        study_name="shared", storage=url, sampler=MetaSampler(history=past(), seed=0)
    )
    ready.wait()
    study.optimize(slow_objective, n_trials=TRIALS)


def _reproduce(_) -> list[dict]:
    _quiet()
    study = optuna.create_study(sampler=MetaSampler(history=past(), seed=7))
    study.optimize(objective, n_trials=5)
    return [trial.params for trial in study.trials]


@pytest.mark.timeout(200)
def test_workers_on_one_storage_do_not_repeat_each_other(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="shared", storage=url)
    context = multiprocessing.get_context("spawn")
    # All at once, with one seed: the hardest case.
    ready = context.Barrier(WORKERS)
    workers = [context.Process(target=_work, args=(url, ready)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * WORKERS

    trials = optuna.load_study(study_name="shared", storage=url).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * WORKERS * TRIALS
    tried = {(trial.params["x"], trial.params["y"]) for trial in trials}
    assert len(tried) == len(trials)


def test_equal_seeds_give_equal_suggestions_in_another_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_reproduce, [None]) == [_reproduce(None)]
