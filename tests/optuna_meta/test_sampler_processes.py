"""MetaSampler in several processes: workers see each other's plans, and seeds reproduce."""

import multiprocessing

import optuna
import pytest
from optuna.trial import TrialState
from support.sampler_workers import suggestions, work

WORKERS, TRIALS = 3, 3


@pytest.mark.timeout(200)
def test_workers_on_one_storage_do_not_repeat_each_other(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="shared", storage=url)
    context = multiprocessing.get_context("spawn")
    # All at once, with one seed: the hardest case.
    ready = context.Barrier(WORKERS)
    workers = [context.Process(target=work, args=(url, ready, TRIALS)) for _ in range(WORKERS)]
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
        assert pool.map(suggestions, [None]) == [suggestions(None)]
