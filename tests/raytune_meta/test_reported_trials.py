"""Reports of Ray's trials as trials: states, values and curves, wherever they come from."""

import math

import pytest
from support.ray_folders import params, write_trial

from metahpo.tasks.space import Space
from metahpo.tasks.task import TrialState
from raytune_meta.experiment import read_experiment
from raytune_meta.ledger import Ledger, SweepTrial
from raytune_meta.reported_trial import ReportedTrial, as_trials


def reported(state=TrialState.COMPLETE, *values: float) -> ReportedTrial:
    reports = dict(enumerate(values, start=1))
    return ReportedTrial({}, state, reports, iterations=len(values))


@pytest.mark.parametrize(("mode", "sign"), [("max", 1.0), ("min", -1.0)])
def test_values_and_curves_are_maximised(mode, sign):
    (trial,) = as_trials([reported(TrialState.COMPLETE, 3.0, 2.0)], mode)
    assert trial.value == sign * 2.0
    assert trial.curve == ((1.0, sign * 3.0), (2.0, sign * 2.0))


def test_a_trial_shorter_than_the_longest_that_ended_is_pruned():
    trials = [
        reported(TrialState.COMPLETE, 1.0, 2.0),
        reported(TrialState.COMPLETE, 1.0),
        reported(TrialState.RUNNING, 1.0, 2.0, 3.0),
        reported(TrialState.FAILED, 1.0, 2.0, 3.0),
    ]
    states = [trial.state for trial in as_trials(trials, "max")]
    assert states == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.RUNNING,
        TrialState.FAILED,
    ]


@pytest.mark.parametrize("values", [(), (1.0, math.nan), (math.inf,)])
def test_a_trial_that_ended_without_a_finite_value_has_failed(values):
    (trial,) = as_trials([reported(TrialState.COMPLETE, *values)], "max")
    assert (trial.state, trial.value) == (TrialState.FAILED, None)


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAILED])
def test_a_running_or_failed_trial_has_a_curve_and_no_value(state):
    (trial,) = as_trials([reported(state, 1.0, 2.0)], "max")
    assert trial.value is None
    assert len(trial.curve) == 2


def test_a_sweep_and_its_folder_give_the_same_trials(tmp_path):
    curves = [[0.1, 0.2, 0.3], [0.5], [0.4, 0.3, math.nan]]
    ledger = Ledger()
    for number, curve in enumerate(curves, start=1):
        write_trial(tmp_path / "run", number, params(number), curve)
        configuration = {"model/lr": 10.0**-number, "model/layers": number}
        ledger.start(str(number), SweepTrial(configuration))
        for iteration, value in enumerate(curve, start=1):
            ledger.report(str(number), iteration, value)
        ledger.end(str(number), 0.0, failed=False)
    folder = read_experiment(tmp_path / "run", "eval/acc", "min").trials
    sweep = ledger.task("sweep", Space({}), "min", {}).trials
    for one, other in zip(folder, sweep, strict=True):
        assert (one.configuration, one.state, one.value) == (
            other.configuration,
            other.state,
            other.value,
        )
        assert str(one.curve) == str(other.curve)
