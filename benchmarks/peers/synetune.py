"""Syne Tune's transfer methods (Salinas et al. 2022), through its ask/tell scheduler.

zero-shot      Wistuba et al. 2015: configurations in the order that lowers the mean rank over
               past tasks; learns nothing from the study. It wants every configuration measured
               on every task, so that what was not measured is predicted by the trees that the
               portfolio uses.
bounding-box   Perrone et al. 2019: Syne Tune's GP (BoTorch) inside the box around the best
               configuration of each past task.
quantile       Salinas et al. 2020: Thompson sampling from a model of Gaussian-transformed past
               values.

Syne Tune has no conditions: it draws every hyperparameter, and inactive ones are dropped
before the evaluation. It wants every hyperparameter in each past task; what one did not have is
put halfway. Values are minimised there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.peers.base import NotInstalledError
from benchmarks.peers.portfolio import all_active, candidate_regrets, values_of
from benchmarks.peers.translate import foreign_configuration, own_configuration
from benchmarks.problems import Problem
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task

METRIC = "loss"
Scheduler = Any


def available() -> None:
    """Raise ``NotInstalledError`` if Syne Tune is missing."""
    # Its transfer methods import huggingface_hub, which it does not declare.
    if find_spec("syne_tune") is None or find_spec("huggingface_hub") is None:
        raise NotInstalledError("Syne Tune is not installed: pip install 'metahpo[peers]'")


class SyneTunePeer:
    """A study of one of Syne Tune's schedulers.

    Args:
        problem: What is tuned.
        scheduler: Syne Tune's.
        searched: The domains that the scheduler searches.
    """

    def __init__(
        self, problem: Problem, scheduler: Scheduler, searched: Mapping[str, Any]
    ) -> None:
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        self._problem = problem
        self._scheduler = AskTellScheduler(base_scheduler=scheduler)
        self._searched = searched
        self._asked: Any = None

    def ask(self) -> dict[str, Any]:
        """Return what the scheduler suggests."""
        with quiet():
            self._asked = self._scheduler.ask()
        return own_configuration(self._asked.config, self._problem)

    def tell(self, configuration: Configuration, value: float) -> None:
        """Record the value of the trial under way, or of one that does not come from ``ask``.

        A configuration outside the scheduler's space is ignored.
        """
        trial = self._asked if self._asked is not None else self._unasked(configuration)
        if trial is not None:
            with quiet():
                self._scheduler.tell(trial, {METRIC: -value})
        self._asked = None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _unasked(self, configuration: Configuration) -> Any:
        (full,) = _complete([configuration], self._problem.space)
        if not all(domain.is_valid(full[name]) for name, domain in self._searched.items()):
            return None
        with quiet():
            trial = self._scheduler.ask()
        trial.config.update(full)
        return trial


def zero_shot(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SyneTunePeer:
    """Configurations in the order of their mean ranks over past tasks."""
    from syne_tune.optimizer.schedulers.transfer_learning.zero_shot import ZeroShotTransfer

    class Asked(ZeroShotTransfer):
        """Call ``get_config``, which version 0.16's own ``suggest`` no longer calls."""

        def suggest(self) -> Any:
            from syne_tune.optimizer.scheduler import TrialSuggestion

            chosen = self.get_config()
            return super().suggest() if chosen is None else TrialSuggestion(config=chosen)

    points, regrets = candidate_regrets(history, problem.space)
    points, first = np.unique(points, axis=0, return_index=True)
    tasks = {
        f"{i} {task.name}": _evaluations(problem.space, points, losses)
        for i, (task, losses) in enumerate(zip(history, regrets[:, first], strict=True))
    }
    space = configuration_space(problem.space)
    with quiet():
        scheduler = Asked(
            config_space=space,
            metric=METRIC,
            transfer_learning_evaluations=tasks,
            do_minimize=True,
            sort_transfer_learning_evaluations=False,
            random_seed=seed,
        )
    return SyneTunePeer(problem, scheduler, space)


def bounding_box(
    problem: Problem, history: Sequence[Task], seed: int, trials: int
) -> SyneTunePeer:
    """A GP inside the box around the best of each past task."""
    from syne_tune.optimizer.baselines import BOTorch
    from syne_tune.optimizer.schedulers.transfer_learning.bounding_box import BoundingBox

    box: dict[str, Any] = {}

    def inner(space: dict[str, Any], metric: str, do_minimize: bool, seed: int) -> Scheduler:
        box.update(space)
        # Its first trials come from NumPy's global stream.
        np.random.seed(seed)  # noqa: NPY002
        return BOTorch(space, metric, do_minimize=do_minimize, random_seed=seed)

    with quiet():
        scheduler = BoundingBox(
            inner,
            configuration_space(problem.space),
            METRIC,
            past_evaluations(history, problem.space),
            do_minimize=True,
            random_seed=seed,
        )
    return SyneTunePeer(problem, scheduler, box)


def quantile(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SyneTunePeer:
    """Thompson sampling from a model of the past tasks' quantiles."""
    from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler
    from syne_tune.optimizer.schedulers.transfer_learning.quantile_based import (
        quantile_based_searcher,
    )

    space = configuration_space(problem.space)
    with quiet():
        searcher = quantile_based_searcher.QuantileBasedSurrogateSearcher(
            space, past_evaluations(history, problem.space), random_seed=seed
        )
        scheduler = SingleObjectiveScheduler(
            space, METRIC, do_minimize=True, searcher=searcher, random_seed=seed
        )
    return SyneTunePeer(problem, scheduler, space)


METHODS: dict[str, Callable[[Problem, Sequence[Task], int, int], SyneTunePeer]] = {
    "zero-shot": zero_shot,
    "bounding-box": bounding_box,
    "quantile": quantile,
}


# ---- spaces and pasts ----------------------------------------------------------------------


def configuration_space(space: Space) -> dict[str, Any]:
    """The space in Syne Tune's types; choices by their text, conditions left out."""
    return {name: _domain(name, d) for name, d in space.distributions.items()}


def _domain(name: str, distribution: BaseDistribution) -> Any:
    from syne_tune import config_space as domains

    match distribution:
        case CategoricalDistribution():
            return domains.choice([str(choice) for choice in distribution.choices])
        case IntDistribution():
            kind = domains.lograndint if distribution.log else domains.randint
        case FloatDistribution():
            kind = domains.loguniform if distribution.log else domains.uniform
        case _:
            raise TypeError(f"hyperparameter {name!r}: unknown distribution {distribution!r}")
    return kind(distribution.low, distribution.high)


def past_evaluations(history: Sequence[Task], space: Space) -> dict[str, Any]:
    """Past tasks as Syne Tune takes them, by name."""
    return {
        f"{i} {task.name}": _evaluations(
            space, all_active([t.configuration for t in task.observed], space), -values_of(task)
        )
        for i, task in enumerate(history)
    }


def _evaluations(space: Space, points: Array, losses: Array) -> Any:
    import pandas as pd
    from syne_tune.optimizer.schedulers.transfer_learning import (
        transfer_learning_task_evaluation as past,
    )

    rows = [foreign_configuration(c, space) for c in space.decode(points)]
    return past.TransferLearningTaskEvaluations(
        configuration_space=configuration_space(space),
        hyperparameters=pd.DataFrame(rows, columns=list(space)),
        objectives_names=[METRIC],
        objectives_evaluations=losses.reshape(-1, 1, 1, 1),
    )


def _complete(configurations: Sequence[Configuration], space: Space) -> list[dict[str, Any]]:
    """Configurations with a value for every hyperparameter."""
    full = space.decode(all_active(configurations, space))
    return [foreign_configuration(configuration, space) for configuration in full]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what Syne Tune prints and logs at each step."""
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
