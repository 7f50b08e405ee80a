"""No configuration is repeated while another is left: new hyperparameters, small spaces."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.settings import DEFAULT_SETTINGS, PolicySettings, PortfolioSettings
from metahpo.suggest import spread
from metahpo.suggest.cells import cells
from metahpo.suggest.decision import Source
from metahpo.suggest.history import History
from metahpo.suggest.policy import suggest
from metahpo.surrogate.study_arrays import placed
from metahpo.tasks.space import Condition, Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState

# Few trees: what the history recommends does not matter here.
FAST = PolicySettings(portfolio=PortfolioSettings(trees=20))
UNIT = FloatDistribution(0, 1)
NEW: dict[str, dict[str, BaseDistribution]] = {
    "float": {"new": FloatDistribution(-3, 5)},
    "log": {"new": FloatDistribution(1e-6, 1, log=True)},
    "stepped": {"new": FloatDistribution(0, 1, step=0.1)},
    "int": {"new": IntDistribution(1, 8)},
    "log int": {"new": IntDistribution(1, 512, log=True)},
    "stepped int": {"new": IntDistribution(0, 60, step=6)},
    "choice": {"new": CategoricalDistribution(["a", "b", None, True])},
    "conditional": {
        "kind": CategoricalDistribution(["a", "b"]),
        "of a": IntDistribution(1, 6),
        "of b": UNIT,
    },
    "single": {"new": IntDistribution(3, 3), "other": IntDistribution(1, 6)},
}
CONDITIONS = {
    "conditional": {"of a": Condition("kind", ("a",)), "of b": Condition("kind", ("b",))}
}
KNOWN: dict[str, BaseDistribution] = {
    "number": UNIT,
    "levels": IntDistribution(0, 3),
    "choices": CategoricalDistribution(["p", "q", "r"]),
}


def past(known: BaseDistribution, count: int = 12) -> Task:
    space = Space({"known": known})
    configurations = space.decode(np.random.default_rng(0).random((count, 1)))
    trials = (Trial(c, -float(i)) for i, c in enumerate(configurations))
    return Task("past", space, tuple(trials))


def text(configuration: Configuration) -> str:
    return repr(sorted(configuration.items()))


def outcomes(space: Space, history: History, state: TrialState, count: int) -> list[Configuration]:
    """What is suggested for trials that all end, or do not end, alike."""
    trials: list[Trial] = []
    for seed in range(count):
        task = Task("present", space, tuple(trials))
        decision = suggest(task, history, seed=seed, define_by_run=False, settings=FAST)
        (configuration,) = decision.configurations
        value = 1.0 if state is TrialState.COMPLETE else None
        trials.append(Trial(configuration, value, state))
    return [trial.configuration for trial in trials]


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.RUNNING], ids=str)
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("new", NEW)
def test_a_hyperparameter_that_the_history_lacks_is_varied(new, known, state):
    """Ten failures in a row, or ten workers: they differ, and in the new one too."""
    space = Space({**NEW[new], "known": KNOWN[known]}, CONDITIONS.get(new, {}))
    found = outcomes(space, History([past(KNOWN[known])]), state, 10)
    assert len(set(map(text, found))) == 10
    values = {text({n: v for n, v in c.items() if n != "known"}) for c in found}
    assert len(values) >= 4


@pytest.mark.parametrize("new", NEW)
def test_a_study_that_succeeds_does_not_repeat_itself(new):
    space = Space({**NEW[new], "known": IntDistribution(0, 3)}, CONDITIONS.get(new, {}))
    history = History([past(KNOWN["levels"])])
    found = outcomes(space, history, TrialState.COMPLETE, 5)
    assert len(set(map(text, found))) == 5


def test_what_only_some_past_tasks_know_is_taken_from_them():
    """The middle of the range would be bad for all of them."""
    both = Space({"x": UNIT, "y": UNIT})
    line = [i / 10 for i in range(11)]
    knows = Task("a", both, tuple(Trial({"x": x, "y": y}, -x - y) for x in line for y in line))
    lacks = Task("b", Space({"x": UNIT}), tuple(Trial({"x": x}, -x) for x in line))
    history = [knows, lacks, replace(lacks, name="c")]
    (first,) = suggest(Task("present", both), history).configurations
    assert first["y"] <= 0.1


def test_near_copies_of_a_trial_are_no_second_opinion():
    """The past's best trials lie within a hundredth of each other, but for one."""
    values = [0.5 + 0.001 * i for i in range(8)]
    trials = [Trial({"x": x}, 1.0 + x / 100) for x in values]
    trials += [Trial({"x": 0.9}, 0.9), *(Trial({"x": x / 50}, 0.0) for x in range(10))]
    space = Space({"x": UNIT})
    history = History([Task("past", space, tuple(trials))])
    tried: list[Trial] = []
    for _ in range(2):
        decision = suggest(Task("present", space, tuple(tried)), history, settings=FAST)
        assert decision.source is Source.PORTFOLIO
        tried.append(Trial(decision.configurations[0], None, TrialState.RUNNING))
    assert abs(tried[0].configuration["x"] - tried[1].configuration["x"]) > FAST.search.near


# ---- small spaces --------------------------------------------------------------------------


def some_space(rng: np.random.Generator) -> Space:
    """At most 60 configurations, of one to three hyperparameters."""
    kinds: list[BaseDistribution] = [
        IntDistribution(0, int(rng.integers(1, 4))),
        CategoricalDistribution(["a", None, 1, True][: int(rng.integers(2, 5))]),
        FloatDistribution(0.1, (0.2, 0.3)[int(rng.integers(0, 2))], step=0.1),
    ]
    chosen = rng.permutation(3)[: int(rng.integers(1, 4))]
    space = Space({f"h{i}": kinds[i] for i in chosen})
    if {0, 1} <= set(chosen.tolist()) and rng.random() < 0.5:
        return space.with_conditions({"h0": Condition("h1", choices=("a",))})
    return space


def check_small_space(seed: int) -> None:
    """A random situation in a small space: some tried, some running, some fixed, a batch."""
    rng = np.random.default_rng(seed)
    space = some_space(rng)
    every = cells(space, np.full(len(space), np.nan), 60)
    assert every is not None
    configurations = space.decode(every)
    fixed: dict[str, Any] = {}
    if rng.random() < 0.3:
        name = space.names[0]
        fixed = {name: next(c[name] for c in configurations if name in c)}
    tried = rng.permutation(len(every))[: int(rng.integers(0, len(every) + 1))]
    states = rng.choice(list(TrialState), len(tried), p=[0.6, 0.1, 0.2, 0.1])
    trials = [
        Trial(configurations[i], float(rng.normal()) if s in ("complete", "pruned") else None, s)
        for i, s in zip(tried, map(TrialState, states), strict=True)
    ]
    history = [
        Task("past", space, (Trial(configurations[0], 1.0), Trial(configurations[-1], 0.0)))
    ]
    (held,) = placed(space, [fixed])
    possible = set(map(text, space.decode(space.canonical(every, held))))
    untried = possible - {text(trial.configuration) for trial in trials}
    count = int(rng.integers(1, 4))
    decision = suggest(
        Task("present", space, tuple(trials)),
        history if rng.random() < 0.5 else [],
        count=count,
        seed=seed,
        fixed=fixed,
        define_by_run=False,
        surrogate="gp" if rng.random() < 0.7 else "neural",
        settings=FAST,
    )
    found = list(map(text, decision.configurations))
    assert set(found) <= possible
    assert len(set(found) & untried) == min(count, len(untried))
    repeats = count > len(untried)
    assert ("No untried configuration is left" in decision.reason) == repeats


@pytest.mark.parametrize("seed", range(24))
def test_nothing_is_repeated_in_a_small_space_before_it_is_used_up(seed):
    check_small_space(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 600))
def test_nothing_is_repeated_in_any_small_space_before_it_is_used_up(seed):
    check_small_space(seed)


def test_the_best_of_all_untried_configurations_is_taken():
    """64 configurations, of which 29 were tried: a search by chance once repeated one."""
    space = Space({name: IntDistribution(0, 3) for name in "abc"})
    every = cells(space, np.full(3, np.nan), 64)
    assert every is not None
    rng = np.random.default_rng(0)
    tried = space.decode(rng.permutation(every)[:29])
    trials = [Trial(c, -float(sum((v - 2) ** 2 for v in c.values()))) for c in tried]
    task = Task("present", space, tuple(trials))
    for surrogate in ("gp", "neural"):
        found = suggest(task, [], surrogate=surrogate).configurations[0]
        assert found not in tried
        assert sum((v - 2) ** 2 for v in found.values()) <= 2


def test_spaces_too_large_to_be_listed_are_not_repeated_either():
    """All but two of 2,116 configurations were tried."""
    space = Space({name: IntDistribution(0, 45) for name in "ab"})
    every = cells(space, np.full(2, np.nan), 3000)
    assert every is not None
    assert len(every) > DEFAULT_SETTINGS.search.most_cells
    order = np.random.default_rng(0).permutation(len(every))
    left = {text(c) for c in space.decode(every[order[:2]])}
    trials = [Trial(c, None, TrialState.FAILED) for c in space.decode(every[order[2:]])]
    found = suggest(Task("present", space, tuple(trials)), [], count=3).configurations
    assert {text(c) for c in found[:2]} == left


# ---- conditions that are not inferred ------------------------------------------------------


def run(space: Space, requested, count: int) -> tuple[list[str], list[str]]:
    """Trials that complete with what ``requested`` takes from each configuration, and reasons."""
    trials: list[Trial] = []
    reasons: list[str] = []
    for seed in range(count):
        task = Task("present", space, tuple(trials))
        decision = suggest(task, [], seed=seed, settings=FAST, surrogate="gp")
        configuration = requested(decision.configurations[0])
        trials.append(Trial(configuration, float(seed % 3)))
        reasons.append(decision.reason)
    return [text(trial.configuration) for trial in trials], reasons


def test_what_depends_on_two_parents_does_not_make_the_rest_repeat():
    """Twelve configurations exist; no single parent tells where x is absent.

    One may be repeated: after two trials with x in a row, x might be new to the objective.
    """
    kinds = {"a": CategoricalDistribution(list("pqr")), "b": CategoricalDistribution(list("uvw"))}
    space = Space({**kinds, "x": IntDistribution(0, 3)})

    def requested(c: Configuration) -> Configuration:
        return c if (c["a"], c["b"]) == ("q", "v") else {name: c[name] for name in kinds}

    found, reasons = run(space, requested, 15)
    assert len(set(found[:13])) == 12
    assert ["No untried" in reason for reason in reasons[13:]] == [True] * 2


def test_a_hyperparameter_that_the_objective_no_longer_has_does_not_make_it_repeat():
    """Also where it makes the space too large to be listed."""
    space = Space({"n": IntDistribution(0, 9), "gone": IntDistribution(0, 10**9)})
    found, _ = run(space, lambda c: {"n": c["n"]}, 12)
    assert len(set(found)) == 10


def test_a_used_up_space_is_not_walked(monkeypatch):
    """All of it is listed: there is nothing more to find."""
    walked: list[None] = []
    monkeypatch.setattr(spread, "_outwards", lambda *_: walked.append(None) or iter(()))
    space = Space({name: IntDistribution(0, 2) for name in "ab"})
    every = cells(space, np.full(2, np.nan), 9)
    assert every is not None
    for state in (TrialState.COMPLETE, TrialState.FAILED):
        value = 1.0 if state is TrialState.COMPLETE else None
        trials = tuple(Trial(c, value, state) for c in space.decode(every))
        decision = suggest(Task("present", space, trials), [], count=2, surrogate="gp")
        assert "No untried configuration is left" in decision.reason
    assert not walked
