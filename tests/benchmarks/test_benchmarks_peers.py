import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

import numpy as np
from support.benchmark_data import needs_data

from benchmarks import cache
from benchmarks.histories import history
from benchmarks.peers import (
    ABLATIONS,
    METHODS,
    NotInstalledError,
    hebo,
    is_historyless,
    run,
    started,
)
from benchmarks.problems import load_problem, split
from metahpo.settings import PolicySettings
from metahpo.suggest import policy
from metahpo.surrogate.neural.pretrained import default_weights

pytestmark = needs_data
# The conditional family, and one without choices for CMA-ES.
FAMILIES = ("xgboost", "lcbench")
OTHERS = [name for name in METHODS if name not in ABLATIONS]


@pytest.fixture(scope="module")
def pasts(tmp_path_factory):
    """Three past tasks of each family, made once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CACHE", tmp_path_factory.mktemp("cache"))
        return {family: history("small", family) for family in FAMILIES}


def installed(method):
    try:
        METHODS[method].available()
    except NotInstalledError as error:
        pytest.skip(str(error))


def test_the_shipped_weights_from_a_file_suggest_the_same_as_by_name(pasts):
    problem = load_problem("lcbench", split("lcbench").validation[0])

    def values(method):
        return run(method, problem, pasts["lcbench"], seed=0, n_trials=4).values

    assert values(f"meta-none@{default_weights()}") == values("meta-neural-none")
    assert values(f"meta@{default_weights()}") == values("meta-neural")
    assert is_historyless(f"meta-none@{default_weights()}")
    assert not is_historyless(f"meta@{default_weights()}")


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours to mend
@pytest.mark.parametrize("method", OTHERS)
def test_every_method_suggests_configurations_of_the_space(method, pasts):
    installed(method)
    family = "lcbench" if method == "cma" else "xgboost"
    problem = load_problem(family, split(family).validation[0])
    peer = started(method, problem, pasts[family], seed=0, n_trials=10)
    asked = []
    try:
        # One that it did not ask for is taken, too.
        (other,) = problem.sample(1, np.random.default_rng(1))
        peer.tell(other, float(problem.evaluate([other])[0]))
        for _ in range(4):
            asked.append(peer.ask())
            peer.tell(asked[-1], float(problem.evaluate(asked[-1:])[0]))
    finally:
        peer.close()
    for configuration in asked:
        assert configuration == problem.active(configuration)
        for name, value in configuration.items():
            distribution = problem.space.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(value))
            assert type(value) in (int, float, str)
    assert len({repr(configuration) for configuration in asked}) > 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["cma", "rgpe", "smac", "syne-quantile", "syne-bounding-box"])
def test_equal_seeds_suggest_the_same_and_other_seeds_do_not(method, pasts):
    installed(method)
    problem = load_problem("lcbench", split("lcbench").validation[0])
    values = [
        run(method, problem, pasts["lcbench"], seed=seed, n_trials=3).values for seed in (0, 0, 1)
    ]
    assert values[0] == values[1]
    assert values[0] != values[2] or method == "rgpe"  # whose first trials are predictions


def test_zero_shot_follows_the_history_from_the_first_trial(pasts):
    installed("syne-zero-shot")
    problem = load_problem("lcbench", split("lcbench").validation[0])
    asked = run("syne-zero-shot", problem, pasts["lcbench"], seed=0, n_trials=3).values
    random = problem.evaluate(problem.sample(200, np.random.default_rng(0)))
    # Had it been drawn at random, the best of three would be this good one time in a hundred.
    assert max(asked) > np.quantile(random, 0.9966) or np.mean(asked) > np.quantile(random, 0.7)


def test_each_ablation_turns_its_part_off_and_nothing_else(monkeypatch):
    seen = []

    def recorded(*arguments, settings, **more):
        seen.append(settings)
        return original(*arguments, settings=settings, **more)

    original = policy.suggest
    monkeypatch.setattr(policy, "suggest", recorded)
    problem = load_problem("rpart", split("rpart").validation[0])
    for method in (*ABLATIONS, "meta"):
        run(method, problem, [], seed=0, n_trials=2)
        assert _switched_off(seen[-1]) == {method.removeprefix("meta-no-")} - {"meta"}


def _switched_off(settings: PolicySettings) -> set[str]:
    on = {
        "portfolio": settings.portfolio.enabled,
        "trust": settings.trust.weigh,
        "transfer": settings.transfer,
        "metafeatures": settings.metafeatures,
    }
    return {part for part, is_on in on.items() if not is_on}


def test_an_ablation_changes_what_is_tried(pasts):
    problem = load_problem("xgboost", split("xgboost").validation[0])
    tried = [
        run(method, problem, pasts["xgboost"], seed=0, n_trials=3).values
        for method in ("meta", "meta-no-portfolio", "meta-no-transfer", "meta")
    ]
    assert tried[0] == tried[3]  # nothing stays turned off
    assert tried[0] != tried[1]
    assert tried[0] != tried[2]


def test_a_missing_environment_is_named(monkeypatch, tmp_path):
    hebo.installed_version.cache_clear()
    monkeypatch.setenv(hebo.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(NotInstalledError, match=str(tmp_path)):
        METHODS["hebo"].available()
    hebo.installed_version.cache_clear()
