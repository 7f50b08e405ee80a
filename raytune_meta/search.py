"""A search algorithm for Ray Tune that starts from what past experiments learned.

This file is a shell: it tells the policy what the sweep knows and hands back what the policy
decided. What it keeps is plain: the space (``space.py``), what became of the trials
(``ledger.py``), how many points and suggestions were used, and the seed. That is also what is
saved, as JSON; from it and the arguments everything else follows.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

from ray.air.constants import TRAINING_ITERATION
from ray.tune.result import DEFAULT_METRIC
from ray.tune.search import UNDEFINED_METRIC_MODE, UNDEFINED_SEARCH_SPACE, Searcher

from metahpo.settings import PolicySettings
from metahpo.suggest.decision import Decision
from metahpo.suggest.decision_text import describe
from metahpo.suggest.plugin import (
    checked_metafeatures,
    checked_seed,
    fresh_seed,
    suggest,
    trial_seed,
)
from metahpo.surrogate.registry import DEFAULT, checked_surrogate
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task
from raytune_meta.arguments import as_number, check_metric
from raytune_meta.domains import from_json, to_json
from raytune_meta.history import History
from raytune_meta.ledger import Ledger, Record
from raytune_meta.objects import put_back, take_out
from raytune_meta.planner import Plan
from raytune_meta.points import GivenPoints, filled
from raytune_meta.space import SearchSpace, merged
from raytune_meta.state import read_state, write_state

_logger = logging.getLogger(__name__)

_CONFIG = "config/"
_TASK = "sweep"


class MetaSearch(Searcher):
    """A search algorithm that learns from past experiments.

    The first trials are already recommendations of the history. Later ones come from a model of
    the present sweep and the past ones, which are trusted as far as they predict the present. One
    metric only. Trials that run count as pending; give ``max_concurrent_trials`` (or a
    ``ConcurrencyLimiter``) how many may run at a time.

    Example:
        >>> from ray import tune
        >>> from raytune_meta import MetaSearch
        >>> tuner = tune.Tuner(
        ...     train,
        ...     param_space={"lr": tune.loguniform(1e-5, 1e-1)},
        ...     tune_config=tune.TuneConfig(
        ...         search_alg=MetaSearch(history="~/ray_results"), metric="acc", mode="max"
        ...     ),
        ... )  # doctest: +SKIP

    Args:
        space: The search space, if ``param_space`` is not to be used: a nested dictionary with
            Ray's domains or Optuna's distributions.
        metric: What is tuned, with ``/`` between the levels of a nested result; or given to Ray.
        mode: ``"max"`` or ``"min"``; or given to Ray.
        points_to_evaluate: Configurations to try first, as they are: nested, or flat with ``/``.
            What one leaves out is suggested.
        evaluated_rewards: The metric's values at those points, if they are known: the points are
            then learned from and not run.
        history: Where past experiments are: the folder or URL of a Ray Tune experiment or of
            several, the URL or file of an Optuna storage, an Optuna storage or study, an
            ``Archive``, the path or URL of one, a ``Task``, or a list of these. Ray's experiments
            are read with the present metric and mode. Read once, when the first trial is made.
        task: Meta-features of the task at hand, numbers by name (``{"rows": 5e4}``).
        surrogate: What predicts: ``"neural"``, a network pretrained on many tuning tasks, where
            it knows the learner or the past bears it out; ``"gp"``, Gaussian processes over the
            trials and the past; or a file of such a network's weights, as ``metahpo train
            surrogate`` makes them.
        settings: Of the policy, for research; nobody else has a reason to change them.
        seed: Makes suggestions reproducible, as far as results come in the same order.

    Raises:
        TypeError: For an argument of the wrong type.
        FileNotFoundError: For a file of weights that is not there.
        ValueError: For a space that cannot be searched, another mode, a negative seed, or
            rewards that are not as many as the points.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        *,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        evaluated_rewards: Sequence[float] | None = None,
        history: Any = None,
        task: Mapping[str, float] | None = None,
        surrogate: str | os.PathLike[str] = DEFAULT,
        settings: PolicySettings | None = None,
        seed: int | None = None,
    ) -> None:
        check_metric(metric, mode)
        super().__init__(metric=metric, mode=mode)
        self._points = GivenPoints(points_to_evaluate, evaluated_rewards)
        self._history = History(history)
        self._metafeatures = checked_metafeatures({} if task is None else task)
        self._surrogate = checked_surrogate(surrogate)
        self._settings = settings or PolicySettings()
        self._seed = fresh_seed() if seed is None else checked_seed(seed)
        self._own_space = space is not None
        self._space: SearchSpace | None = None
        # As Ray does to param_space.
        tree, self._taken = take_out(space or {})
        if space is not None:
            self._space = SearchSpace(tree)
        self._ledger = Ledger()
        self._limit: int | None = None
        self._asked = 0
        # Trials of a run that has ended: pending to the model, but they hold no slot.
        self._abandoned: set[str] = set()
        self._plan = Plan([])

    # ---- what Ray tells beforehand ---------------------------------------------------------

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Takes the metric, the mode and the space from Ray.

        Returns:
            False where the space was given to the constructor; Ray minds only if ``config``
            holds domains as well.
        """
        check_metric(metric or self._metric, mode or self._mode)
        self._metric = metric or self._metric
        self._mode = mode or self._mode
        self._abandoned.update(self._ledger.running)
        if self._own_space:
            return False
        self._space = SearchSpace(config)
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Takes over the limit of a ``ConcurrencyLimiter``, to plan for the free slots."""
        self._limit = max_concurrent
        return True

    # ---- suggesting ------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, as a tree; None while as many trials run as may.

        Raises:
            RuntimeError: Where the space, the metric or the mode is not known (Ray's messages).
            SourceError: For a history that cannot be read.
        """
        space = self._ready_space()
        for point, reward in self._points.evaluated():
            self.add_evaluated_point(point, reward)
        live = self._live
        if self._limit is not None and live >= self._limit:
            return None
        given = self._points.next()
        configuration, decision = self._chosen(space, given, live)
        self._asked += 1
        record = Record(configuration, started=time.time(), decision=self._in_units(decision))
        self._ledger.start(trial_id, record)
        self._plan_ahead()
        return self._resolved(space, configuration, given)

    def _chosen(
        self, space: SearchSpace, given: Mapping[str, Any] | None, live: int
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The next trial's configuration and, where it was decided here, why."""
        read = {} if given is None else space.read(given)
        if given is not None and filled(space, read, read).keys() == read.keys():
            return read, None
        free = 1 if self._limit is None or given is not None else self._limit - live
        configuration, decision = self._plan.take(
            partial(self._decision, free), self._ledger.ended, self._limit or max(1, live)
        )
        if given is not None:
            return filled(space, read, configuration), None
        return space.finished(configuration), decision

    def _decision(self, count: int) -> Decision:
        seed = trial_seed(self._seed, self._asked)
        return self._make(self._surrogate, self._settings, *self._known(), seed, count)

    def _known(self) -> tuple[Task, Sequence[Task]]:
        """The sweep so far and the history: what does not change any more."""
        mode = cast(Literal["max", "min"], self._mode)
        space = self._ready_space().space
        task = self._ledger.task(_TASK, space, mode, self._metafeatures)
        return task, self._history.tasks(task, str(self._metric), mode)

    @staticmethod
    def _make(
        surrogate: str,
        settings: PolicySettings,
        task: Task,
        history: Sequence[Task],
        seed: int,
        count: int,
    ) -> Decision:
        return suggest(
            task,
            history,
            count=count,
            seed=seed,
            define_by_run=False,
            surrogate=surrogate,
            settings=settings,
            failed=lambda error: _logger.warning(f"The model failed ({error!r}).", exc_info=True),
        )

    def _plan_ahead(self) -> None:
        """Begins the next suggestion where trials run in parallel."""
        # Without a limit Ray keeps one trial waiting beside those that run.
        parallel = self._limit or self._live - 1
        if parallel < 2 or self._points.left:
            return
        seed = trial_seed(self._seed, self._asked)
        make = partial(self._make, self._surrogate, self._settings, *self._known(), seed, 1)
        self._plan.begin(make, self._ledger.ended)

    @property
    def _live(self) -> int:
        return sum(trial_id not in self._abandoned for trial_id in self._ledger.running)

    def _ready_space(self) -> SearchSpace:
        """The space.

        Raises:
            RuntimeError: As Ray's own searchers do.
        """
        name = type(self).__name__
        if self._space is None or not len(self._space.space):
            raise RuntimeError(UNDEFINED_SEARCH_SPACE.format(cls=name, space="space"))
        if self._mode and not self._metric:
            self._metric = DEFAULT_METRIC
        if not self._metric or not self._mode:
            raise RuntimeError(
                UNDEFINED_METRIC_MODE.format(cls=name, metric=self._metric, mode=self._mode)
            )
        return self._space

    def _resolved(
        self, space: SearchSpace, configuration: Configuration, given: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        tree = space.resolve(configuration, constants=self._own_space)
        if given is not None:
            tree = merged(tree, given)
        return put_back(tree, self._taken) if self._taken else tree

    def _in_units(self, decision: dict[str, Any] | None) -> dict[str, Any] | None:
        """The record of a decision, its prediction with the sign that the metric has."""
        if decision is None or decision["mean"] is None or self._mode == "max":
            return decision
        return decision | {"mean": -decision["mean"]}

    # ---- what is told besides --------------------------------------------------------------

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learns from a trial that was run elsewhere.

        Args:
            parameters: Its configuration, nested or flat.
            value: The metric's.
            error: Whether it failed.
            pruned: Whether it was stopped early; its value counts all the same.
            intermediate_values: The metric at iterations 1, 2, ...
        """
        space = self._ready_space()
        trial_id = f"evaluated-{len(self._ledger)}"
        self._ledger.start(trial_id, Record(space.read(parameters)))
        for iteration, reported in enumerate(intermediate_values or (), start=1):
            self._ledger.report(trial_id, iteration, as_number(reported))
        self._ledger.report(trial_id, None, as_number(value))
        self._ledger.end(trial_id, time.time(), failed=error)

    # ---- what Ray reports ------------------------------------------------------------------

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Takes note of a report; one that lacks the metric tells nothing."""
        if self._knows(trial_id, result) and self._metric in result:
            iteration = result.get(TRAINING_ITERATION)
            iteration = iteration if isinstance(iteration, int) else None
            self._ledger.report(trial_id, iteration, as_number(result[self._metric]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Takes note that a trial has ended, by itself, by a scheduler or by an error.

        Some schedulers stop trials without a result: the last report then counts.
        """
        if result:
            self.on_trial_result(trial_id, result)
        if trial_id in self._ledger:
            self._ledger.end(trial_id, time.time(), failed=error)

    def _knows(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the trial is known; one that was restarted under another name is taken up."""
        if trial_id not in self._ledger and self._space is not None:
            flat = {k.removeprefix(_CONFIG): v for k, v in result.items() if k.startswith(_CONFIG)}
            if configuration := self._space.read(flat):
                self._ledger.start(trial_id, Record(configuration))
        return trial_id in self._ledger

    # ---- explaining ------------------------------------------------------------------------

    def explain(self, trial_id: str) -> str:
        """Why a trial tries what it tries, as a paragraph.

        Args:
            trial_id: As Ray has it (``result.metrics["trial_id"]``).

        Raises:
            ValueError: For a trial that this search algorithm did not decide.
        """
        record = self._ledger[trial_id].decision if trial_id in self._ledger else None
        if record is None:
            raise ValueError(f"MetaSearch did not decide trial {trial_id!r}")
        return f"Trial {trial_id}: {describe(Decision.from_json(record))}"

    # ---- saving and restoring --------------------------------------------------------------

    def save(self, checkpoint_path: str) -> None:
        """Writes the state: JSON, whole or not at all."""
        self._plan.settle()
        state = {
            "metric": self._metric,
            "mode": self._mode,
            "space": None if self._space is None else to_json(self._space.tree),
            "holds_objects": bool(self._taken),
            "seed": self._seed,
            "asked": self._asked,
            "points_used": self._points.used,
            "ended": self._ledger.ended,
            "trials": self._ledger.to_json(),
            "plan": {"ready": self._plan.ready, "ended": self._plan.ended},
        }
        write_state(checkpoint_path, state)

    def restore(self, checkpoint_path: str) -> None:
        """Goes on from a saved state: its trials, its seed, and its space where none was given.

        Raises:
            ValueError: For a file that is no saved state, and for one whose space holds functions
                or objects where the space was not given again.
        """
        state = read_state(checkpoint_path)
        self._metric = state["metric"] or self._metric
        self._mode = state["mode"] or self._mode
        if self._space is None and state["space"] is not None:
            if state["holds_objects"]:
                raise ValueError(
                    f"the space saved in {checkpoint_path} holds functions or objects: give "
                    "`space` to MetaSearch again"
                )
            self._space = SearchSpace(from_json(state["space"]))
        self._seed = state["seed"]
        self._asked = state["asked"]
        self._points.used = state["points_used"]
        self._ledger = Ledger.from_json(state["trials"])
        self._ledger.ended = state["ended"]
        plan = state["plan"]
        self._plan = Plan([(c, d) for c, d in plan["ready"]], plan["ended"])
        self._abandoned = set(self._ledger.running)

    def restore_from_dir(self, checkpoint_dir: str, session_str: str | None = None) -> None:
        """What Ray calls to resume an experiment, whose running trials it resumes as well."""
        super().restore_from_dir(checkpoint_dir)
        self._abandoned.clear()
