import optuna
import pytest
from optuna.distributions import FloatDistribution

from metahpo import Space, Task, Trial
from metahpo.suggest.decision import Decision, Part, Source
from metahpo.suggest.decision_record import DecisionRecord
from metahpo.suggest.decision_text import describe
from optuna_meta import MetaSampler, explain

PAST = Task(
    "last week",
    Space({"x": FloatDistribution(0, 1)}),
    tuple(Trial({"x": x / 8}, -abs(x / 8 - 0.25)) for x in range(9)),
)


def test_a_description_names_source_reason_past_tasks_prediction_trust_and_ranges():
    decision = DecisionRecord(
        source=Source.ACQUISITION,
        reason="It promises most.",
        past_tasks=(("mnist", 0.6), ("cifar", -0.396), ("svhn", 0.004)),
        trust=0.75,
        mean=0.91234,
        deviation=0.01234,
        hopeless={
            "lr": Part(((1e-5, 1e-4), (0.1, 1.0))),
            "layers": Part(((2, 2),)),
            "optimizer": Part(choices=("sgd", (64, 64))),
        },
    )
    assert describe(decision) == (
        "Found by the acquisition function, which weighs promise and novelty. "
        "It promises most. "
        "Past tasks that carried weight: mnist (60%), cifar (40%, reversed) "
        "and svhn (less than 1%). "
        "Predicted value: 0.9123 ± 0.01234. "
        "Weight of the history against this study's own trials: 75%. "
        "Considered hopeless: lr from 1e-05 to 0.0001 or from 0.1 to 1, layers 2 and "
        "optimizer 'sgd' or (64, 64)."
    )


@pytest.mark.parametrize("source", Source)
def test_a_description_leaves_out_what_was_not_recorded(source):
    text = describe(DecisionRecord(source, "Thus."))
    assert text.endswith("Thus.")
    assert "None" not in text


def test_a_description_sums_up_all_but_the_five_heaviest_past_tasks():
    weights = tuple((f"task {i}", 0.1) for i in range(10))
    text = describe(DecisionRecord(Source.PORTFOLIO, "Thus.", past_tasks=weights))
    assert "task 4 (10%) and 5 more (50%)" in text
    assert "task 5" not in text


def test_finished_and_running_trials_have_the_same_explanation():
    live = []

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        live.append(explain(trial))
        return (x - 0.25) ** 2

    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(objective, n_trials=3)
    assert [explain(trial) for trial in study.trials] == live
    assert live[0].startswith("Trial 0: ")
    assert "last week" in live[0]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_prediction_is_in_the_direction_of_the_study(direction, monkeypatch):
    monkeypatch.setattr(
        "metahpo.suggest.policy.suggest",
        lambda *_, **__: Decision(({"x": 0.5},), Source.ACQUISITION, "Thus.", mean=2.0),
    )
    sampler = MetaSampler(history=PAST)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    expected = "-2" if direction == "minimize" else "2"
    assert f"Predicted value: {expected}." in explain(study.trials[0])


def test_a_prediction_of_zero_is_shown_without_a_sign(monkeypatch):
    monkeypatch.setattr(
        "metahpo.suggest.policy.suggest",
        lambda *_, **__: Decision(({"x": 0.5},), Source.ACQUISITION, "Thus.", mean=0.0),
    )
    study = optuna.create_study(direction="minimize", sampler=MetaSampler(history=PAST))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert "Predicted value: 0." in explain(study.trials[0])


def test_a_trial_that_was_not_decided_has_one_true_sentence():
    def objective(trial):
        return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.enqueue_trial({"x": 0.5, "y": 0.5, "unknown": 1})
    study.enqueue_trial({"x": 0.5})
    assert "waits" in explain(study.trials[0])
    study.optimize(objective, n_trials=2)
    assert explain(study.trials[0]) == (
        "Trial 0: All its values were enqueued; MetaSampler had nothing to decide."
    )
    assert "Given beforehand: x." in explain(study.trials[1])
    study.add_trial(study.trials[0])
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.enqueue_trial({"x": 0.5})
    study.optimize(objective, n_trials=2)
    study.sampler = MetaSampler(seed=0)
    study.optimize(lambda trial: 1.0, n_trials=1)
    live = study.ask()
    assert explain(live).endswith(
        "asked for no hyperparameter yet, and nothing is decided before."
    )
    texts = [explain(trial) for trial in study.trials]
    assert "another sampler but for x, which was enqueued." in texts[3]
    assert texts[4].endswith("another sampler.")
    assert "nothing to decide" in texts[5]
    assert all(text.startswith(f"Trial {number}: ") for number, text in enumerate(texts))


def test_an_attribute_that_is_not_a_decision_is_an_error():
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    trial = study.ask()
    study._storage.set_trial_system_attr(trial._trial_id, "metahpo:decision", {"odd": 1})
    with pytest.raises(ValueError, match="not a recorded decision"):
        explain(trial)
