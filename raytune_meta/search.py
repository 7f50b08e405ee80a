"""A search algorithm for Ray Tune that starts from what past experiments learned.

This file is a shell around the policy: the sweep goes in as a task, and a decision comes back. Its
state is plain: the space (``nested_space.py``), the trials (``ledger.py``), how many points and
suggestions were used, and the seed. That is also what is saved, as JSON; everything else follows
from it and the arguments.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

from ray.tune.search import Searcher

from metahpo.settings import PolicySettings
from metahpo.suggest.decision_record import DecisionRecord
from metahpo.suggest.decision_text import describe
from metahpo.suggest.plugin import (
    checked_metafeatures,
    checked_seed,
    fresh_seed,
    trial_seed,
)
from metahpo.surrogate.registry import DEFAULT, checked_surrogate
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task
from raytune_meta._ray import (
    DEFAULT_METRIC,
    TRAINING_ITERATION,
    set_metric,
    undefined_metric,
    undefined_space,
)
from raytune_meta.arguments import as_number, check_metric, checked_constraints, checked_space
from raytune_meta.domains import from_json, to_json
from raytune_meta.folders import CONFIG
from raytune_meta.ledger import Ledger, SweepTrial
from raytune_meta.nested_space import SearchSpace
from raytune_meta.objects import put_back, take_out, with_placeholders
from raytune_meta.plain import plain
from raytune_meta.planner import Plan, Suggestion, make_suggestions
from raytune_meta.points import GivenPoints, is_whole
from raytune_meta.reported_trial import reported_constraints, sign_of
from raytune_meta.saved_state import read_state, write_state
from raytune_meta.sweep_history import SweepHistory
from raytune_meta.trees import merged

_logger = logging.getLogger(__name__)

_TASK = "sweep"


class MetaSearch(Searcher):
    """A search algorithm that learns from past experiments.

    The first trials are already recommendations from the history. Later ones come from a model of
    the present sweep and the past ones, which are trusted as far as they predict the present. One
    metric only. Running trials count as pending; ``max_concurrent_trials`` (or a
    ``ConcurrencyLimiter``) sets how many may run at a time.

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
        metric: The metric, with ``/`` between the levels of a nested result; or given to Ray.
        mode: ``"max"`` or ``"min"``; or given to Ray.
        points_to_evaluate: Configurations to try first, unchanged: nested, or flat with ``/``.
            Values that one leaves out are suggested, for those that it has.
        evaluated_rewards: The metric's values at those points, if known: the points are then
            learned from and not run.
        constraints: Names of results, with ``/`` between the levels of nested ones, each of which
            is at most 0 where its constraint holds (``{"over_20_ms": latency - 20}``; a truth
            value says whether it is violated). A trial that violates one counts as worse than
            every feasible trial; a larger violation, summed over the constraints, counts as
            worse. The last report of each counts, in this sweep and in Ray experiments given as
            history; one that a trial has not reported counts as met.
        history: Where past experiments are: the folder or URL of a Ray Tune experiment or of
            several, the URL or file of an Optuna storage, an Optuna storage or study, an
            ``Archive``, the path or URL of one, a ``Task``, whatever else a registered reader
            accepts, or a list of these. Ray's experiments are read with the present metric and
            mode. Read once, at the first suggestion. A source that does not exist or holds no
            past task is an error (``metahpo.SourceError`` at the first suggestion),
            except for a folder whose first experiment has just begun and an empty list.
        task: Meta-features of the task at hand, numbers by name (``{"rows": 5e4}``).
        surrogate: The surrogate: ``"neural"``, a network pretrained on many tuning tasks, used
            where it was trained on the learner or predicts the history well; ``"gp"``, Gaussian
            processes over the trials and the history; or a file of such a network's weights, as
            ``metahpo train surrogate`` writes them; or a registered one
            (``metahpo.register_surrogate``).
        settings: Settings of the policy, for research; other users have no reason to change them.
        seed: Makes suggestions reproducible, as far as results come in the same order.

    Raises:
        TypeError: For an argument of the wrong type.
        FileNotFoundError: For a file of weights that does not exist.
        ValueError: For an empty string as history, a space that cannot be searched, another mode,
            a negative seed, another number of rewards than of points, or an empty or repeated
            name of a constraint.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        *,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        evaluated_rewards: Sequence[float] | None = None,
        constraints: Sequence[str] | None = None,
        history: Any = None,
        task: Mapping[str, float] | None = None,
        surrogate: str | os.PathLike[str] = DEFAULT,
        settings: PolicySettings | None = None,
        seed: int | None = None,
    ) -> None:
        check_metric(metric, mode)
        super().__init__(metric=metric, mode=mode)
        self._points = GivenPoints(points_to_evaluate, evaluated_rewards)
        self._constraints = checked_constraints(constraints)
        self._warned_constraints: set[str] = set()
        self._history = SweepHistory(history)
        self._metafeatures = checked_metafeatures({} if task is None else task)
        self._surrogate = checked_surrogate(surrogate)
        self._settings = settings or PolicySettings()
        self._seed = fresh_seed() if seed is None else checked_seed(seed)
        # Ray does the same to param_space.
        tree, self._taken = take_out({} if space is None else checked_space(space))
        self._space = None if space is None else SearchSpace(tree)
        self._space_is_argument = space is not None
        # Ray adds those of param_space to what is suggested.
        self._adds_constants = space is not None
        self._ledger = Ledger()
        self._limit: int | None = None
        self._suggested = 0
        # Running trials of a sweep that was broken off: pending to the model, but without a slot.
        self._abandoned: set[str] = set()
        self._plan = Plan()
        # Those whose model has failed, so that it is said once.
        self._sweeps_with_failures: set[str] = set()

    # ---- space, metric and mode ------------------------------------------------------------

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take the metric, the mode and the space from Ray.

        A ``config`` without hyperparameters changes the constants of a restored space.

        Returns:
            False if the space was given to the constructor; Ray then raises an error if
            ``config`` holds domains as well.
        """
        check_metric(metric or self.metric, mode or self.mode)
        set_metric(self, metric or self.metric, mode or self.mode)
        self._abandoned.update(self._ledger.running)
        if self._space_is_argument:
            return False
        given = SearchSpace(config)
        if self._space is not None and not len(given.space):
            self._space = SearchSpace(merged(self._space.tree, given.tree))
        else:
            self._space, self._adds_constants = given, False
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Take over the limit of a ``ConcurrencyLimiter``, to plan for the free slots."""
        self._limit = int(max_concurrent)
        return True

    # ---- suggesting ------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next configuration, as a tree; None while the limit of trials is running.

        Raises:
            RuntimeError: Without a space, a metric or a mode (Ray's messages).
            SourceError: For a history that cannot be read or holds no task.
        """
        space = self._ready_space()
        for point, reward in self._points.evaluated():
            self.add_evaluated_point(point, reward)
        live = self._live
        if self._limit is not None and live >= self._limit:
            return None
        given = with_placeholders(self._points.next(), self._taken)
        configuration, decision = self._chosen(space, given, live)
        self._suggested += 1
        trial = SweepTrial(configuration, started=time.time(), decision=decision)
        self._ledger.start(trial_id, trial)
        self._plan_ahead()
        return self._resolved(space, configuration, given)

    def _chosen(
        self, space: SearchSpace, given: Mapping[str, Any] | None, live: int
    ) -> tuple[dict[str, Any], DecisionRecord | None]:
        """Return the next trial's configuration and, if it was decided here, why."""
        if given is not None:
            _warn_of_unreadable(space, given)
            return self._completed(space, space.read(given))
        free = 1 if self._limit is None else self._limit - live
        configuration, decision = self._plan.take(
            partial(self._suggest_now, free), self._ledger.ended, self._limit or max(1, live)
        )
        return space.finished(configuration), decision

    def _completed(
        self, space: SearchSpace, read: dict[str, Any]
    ) -> tuple[dict[str, Any], DecisionRecord | None]:
        """Return a given point with what it leaves out, decided for what it says, and why."""
        if is_whole(space, read):
            return read, None
        ((configuration, decision),) = self._maker(1, read)()
        return {n: read.get(n, v) for n, v in space.finished(configuration).items()}, decision

    def _suggest_now(self, count: int) -> list[Suggestion]:
        return self._maker(count)()

    def _maker(
        self, count: int, fixed: Mapping[str, Any] | None = None
    ) -> Callable[[], list[Suggestion]]:
        """Return what makes suggestions from the sweep as it is now, in any thread."""
        task, history = self._task_and_history()
        seed, sign = trial_seed(self._seed, self._suggested), sign_of(self.mode)
        options = self._surrogate, self._settings, sign, self._sweeps_with_failures, fixed
        return partial(make_suggestions, task, history, count, seed, *options)

    def _task_and_history(self) -> tuple[Task, Sequence[Task]]:
        """Return the sweep so far and the past tasks."""
        mode = cast(Literal["max", "min"], self.mode)
        space = self._ready_space().space
        task = self._ledger.task(_TASK, space, mode, self._metafeatures)
        history = self._history.tasks(task, str(self.metric), mode, self._constraints)
        return task, history

    def _plan_ahead(self) -> None:
        """Begin the next suggestion if trials run in parallel."""
        # Without a limit Ray keeps one trial waiting beside those that run.
        parallel = self._limit or self._live - 1
        if parallel < 2 or self._points.left:
            return
        self._plan.begin(self._maker(1), self._ledger.ended)

    @property
    def _live(self) -> int:
        return sum(trial_id not in self._abandoned for trial_id in self._ledger.running)

    def _ready_space(self) -> SearchSpace:
        """Return the space.

        Raises:
            RuntimeError: As Ray's own searchers do.
        """
        if self._space is None or not len(self._space.space):
            raise RuntimeError(undefined_space(self))
        if self.mode and not self.metric:
            set_metric(self, DEFAULT_METRIC, self.mode)
        if not self.metric or not self.mode:
            raise RuntimeError(undefined_metric(self))
        return self._space

    def _resolved(
        self, space: SearchSpace, configuration: Configuration, given: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        tree = space.resolve(configuration, constants=self._adds_constants)
        if given is not None:
            tree = space.overlaid(tree, given)
        return put_back(tree, self._taken) if self._taken else tree

    # ---- trials that were run elsewhere ----------------------------------------------------

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
        constraints: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a trial that was run elsewhere.

        Args:
            parameters: Its configuration, nested or flat.
            value: The metric's value.
            error: Whether it failed.
            pruned: Whether it was stopped early; its value counts all the same.
            intermediate_values: The metric at iterations 1, 2, ...
            constraints: The values of constraints, by name.
        """
        space = self._ready_space()
        point = with_placeholders(parameters, self._taken)
        _warn_of_unreadable(space, point)
        trial_id = f"evaluated-{len(self._ledger)}"
        self._ledger.start(trial_id, SweepTrial(space.read(point)))
        reports = () if intermediate_values is None else intermediate_values
        for iteration, reported in enumerate(reports, start=1):
            self._ledger.report(trial_id, iteration, as_number(reported))
        self._ledger.report(trial_id, None, as_number(value))
        self._ledger.constrain(
            trial_id, reported_constraints(constraints or {}, self._constraints)
        )
        self._ledger.end(trial_id, time.time(), failed=error)

    # ---- results ---------------------------------------------------------------------------

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Add a report; one without the metric and the constraints is ignored."""
        if not self._is_started(trial_id, result):
            return
        self._ledger.constrain(trial_id, reported_constraints(result, self._constraints))
        if self.metric in result:
            iteration = plain(result.get(TRAINING_ITERATION))
            iteration = iteration if isinstance(iteration, int) else None
            self._ledger.report(trial_id, iteration, as_number(result[self.metric]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End a trial that has ended by itself, by a scheduler or with an error.

        Some schedulers stop trials without a result: the last report then counts.
        """
        if result:
            self.on_trial_result(trial_id, result)
        if trial_id in self._ledger:
            self._ledger.end(trial_id, time.time(), failed=error)
            if not error:
                self._warn_of_unreported()

    def _warn_of_unreported(self) -> None:
        """Log a warning, once each, of constraints that no trial has reported so far."""
        if not self._constraints:
            return
        reported = self._ledger.constraints | self._warned_constraints
        if missed := [name for name in self._constraints if name not in reported]:
            self._warned_constraints.update(missed)
            _logger.warning(
                "A trial has ended, and no result had the constraint "
                f"{', '.join(map(repr, missed))}: unless it is reported it counts as met."
            )

    def _is_started(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a trial is in the ledger; one restarted under another name is added to it."""
        if trial_id not in self._ledger and self._space is not None:
            flat = {k.removeprefix(CONFIG): v for k, v in result.items() if k.startswith(CONFIG)}
            if configuration := self._space.read(flat):
                self._ledger.start(trial_id, SweepTrial(configuration))
        return trial_id in self._ledger

    # ---- explaining ------------------------------------------------------------------------

    def explain(self, trial_id: str) -> str:
        """Return why a trial tries what it tries, as a paragraph.

        Args:
            trial_id: Ray's identifier (``result.metrics["trial_id"]``).

        Raises:
            ValueError: For a trial that this search algorithm has never seen.
        """
        if trial_id not in self._ledger:
            raise ValueError(f"MetaSearch knows no trial {trial_id!r}")
        decision = self.recorded_decision(trial_id)
        if decision is None:
            return f"Trial {trial_id}: Its configuration was given, not suggested by MetaSearch."
        return f"Trial {trial_id}: {describe(decision)}"

    def recorded_decision(self, trial_id: str) -> DecisionRecord | None:
        """Return why a trial's configuration was chosen; None where this did not choose it.

        Args:
            trial_id: Ray's identifier.
        """
        return self._ledger[trial_id].decision if trial_id in self._ledger else None

    # ---- saving and restoring --------------------------------------------------------------

    def save(self, checkpoint_path: str) -> None:
        """Write the state as JSON, atomically."""
        state = {
            "metric": self.metric,
            "mode": self.mode,
            "constraints": list(self._constraints),
            "space": None if self._space is None else to_json(self._space.tree),
            "adds_constants": self._adds_constants,
            "holds_objects": bool(self._taken),
            "seed": self._seed,
            "suggested": self._suggested,
            "points_used": self._points.used,
            "ledger": self._ledger.to_json(),
            "plan": self._plan.to_json(),
        }
        write_state(checkpoint_path, state)

    def restore(self, checkpoint_path: str) -> None:
        """Continue a saved state: its trials and seed; space and constraints if none were given.

        Raises:
            ValueError: For a file that is not a saved state, and for one whose space holds
                functions or objects if the space was not given again.
        """
        state = read_state(checkpoint_path)
        set_metric(self, state["metric"] or self.metric, state["mode"] or self.mode)
        # States saved before there were constraints have none.
        self._constraints = self._constraints or tuple(state.get("constraints", ()))
        if self._space is None and state["space"] is not None:
            if state["holds_objects"]:
                raise ValueError(
                    f"the space saved in {checkpoint_path} holds functions or objects: give "
                    "`space` to MetaSearch again"
                )
            self._space = SearchSpace(from_json(state["space"]))
            self._adds_constants = state.get("adds_constants", False)
        self._seed = state["seed"]
        self._suggested = state["suggested"]
        self._points.used = state["points_used"]
        self._ledger = Ledger.from_json(state["ledger"])
        self._plan = Plan.from_json(state["plan"])
        self._abandoned = set(self._ledger.running)

    def restore_from_dir(self, checkpoint_dir: str, session_str: str | None = None) -> None:
        """Continue an experiment that Ray resumes, with its running trials."""
        super().restore_from_dir(checkpoint_dir)
        self._abandoned.clear()


def _warn_of_unreadable(space: SearchSpace, point: Mapping[str, Any]) -> None:
    if names := space.unreadable(point):
        _logger.warning(
            f"A given point has no value of the search space at {', '.join(map(repr, names))}: it "
            "counts as left out there."
        )
