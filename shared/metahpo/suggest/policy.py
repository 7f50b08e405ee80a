"""What to try next: the one entry to everything below.

``suggest`` is a function of the task so far, the history and a seed. Nothing is remembered
between calls but caches of fits, under the data they were made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metahpo.similarity import sharpen
from metahpo.suggest.acquisition import BRIEF, Effort, MixtureLogEI, maximise
from metahpo.suggest.aligned_history import Past, expected_space, prepare
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.modelling import (
    GAUSSIAN,
    NEURAL,
    gaussian_surrogate,
    is_familiar,
    knows,
    network_named,
    neural_surrogate,
    suits,
)
from metahpo.suggest.shrink import Box, natural_bounds, promising_box, widen
from metahpo.surrogate.mixture import Surrogate
from metahpo.surrogate.neural.neural_model import NeuralModel
from metahpo.surrogate.study_arrays import Study, key_of, study_arrays
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space
from metahpo.tasks.task import Task

__all__ = ["Switches", "expected_space", "suggest"]

# Trials from the portfolio before the surrogate is asked. One trial does not tell whether it was
# a good one; the second serves those past tasks that the first one serves badly.
PORTFOLIO_TRIALS = 2
# Trials without improvement before one audits history, how often in a row, and until when.
AUDIT_AFTER = 4
AUDITS = 2
AUDITED = 15
# Below this trust history needs no more audits: it decides little.
AUDIT_TRUST = 0.2
# Below this trust in Gaussian processes the history is left behind.
LOST_TRUST = 0.05
# Below this trust the space is not shrunk.
SHRINK_TRUST = 0.5
# Of the range of a hyperparameter: by how much a batch's later points are moved.
NUDGE = 0.005
# Past tasks that a decision names.
NAMED_TASKS = 5


@dataclass(frozen=True)
class Switches:
    """Parts of the policy that a benchmark can turn off; users have no reason to."""

    portfolio: bool = True
    transfer: bool = True
    trust: bool = True
    shrink: bool = True
    metafeatures: bool = True


def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int = 1,
    seed: int = 0,
    define_by_run: bool = True,
    surrogate: str = NEURAL,
    switches: Switches = Switches(),
) -> Decision:
    """Configurations to run next.

    Args:
        task: The task so far, running trials included; its space is what is searched.
        history: Past tasks.
        count: How many configurations.
        seed: Of everything random.
        define_by_run: Whether the task's space is only what its trials have asked for so far, so
            that conditions and hyperparameters that history shows are added to it. False where
            the space is stated in full.
        surrogate: ``"neural"``, the pretrained network; ``"gp"``, Gaussian processes; or a file
            of the network's weights.
        switches: Parts to turn off.

    Returns:
        The configurations and the reasons. The same arguments give the same decision.

    Raises:
        ValueError: For a count below 1, a space without hyperparameters, or a file that holds
            no weights.
        OSError: The weights cannot be read.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not len(task.space):
        raise ValueError("the space has no hyperparameters")
    past = prepare(task, history, metafeatures=switches.metafeatures, define_by_run=define_by_run)
    study = study_arrays(task, past.space)
    rng = np.random.default_rng(seed)
    # A network has something to say before any trial where it has seen such hyperparameters.
    informed = past.tasks or (
        surrogate != GAUSSIAN and is_familiar(network_named(surrogate), study.space)
    )
    # Nor has it where all that was tried failed: it does not read failures.
    informed = past.tasks or (informed and not study.failed)
    if not informed and len(study.values) < _space_filling_trials(study.space):
        return _fill_space(study, count, rng)
    if past.tasks and len(study.values) < PORTFOLIO_TRIALS:
        if switches.portfolio:
            return _from_portfolio(study, past, count, rng)
        return _fill_space(study, count, rng)
    return _from_surrogate(study, past, count, rng, switches, surrogate)


# ---- three ways to decide ------------------------------------------------------------------


def _space_filling_trials(space: Space) -> int:
    return int(np.clip(2 + len(space) // 2, 4, 8))


def _fill_space(study: Study, count: int, rng: np.random.Generator) -> Decision:
    """Configurations far from all others."""
    return Decision(
        configurations=tuple(study.space.decode(np.stack(_spread(study, [], count, rng)))),
        source=Source.SPACE_FILLING,
        reason="Few trials yet and no history to follow: a configuration far from those tried.",
    )


def _spread(
    study: Study, chosen: Sequence[Array], count: int, rng: np.random.Generator
) -> list[Array]:
    """The chosen points, and as many far from them and from all tried as make up the count."""
    chosen = list(chosen)
    while len(chosen) < count:
        taken = np.concatenate([study.taken, *[point[None] for point in chosen]])
        chosen.append(_farthest(study.space, taken, rng))
    return chosen


# Random configurations of which the farthest from all others is taken (Mitchell 1991).
SPREAD_CANDIDATES = 64


def _farthest(space: Space, points: Array, rng: np.random.Generator) -> Array:
    """One point; distances wrap around, so that corners are not preferred."""
    candidates = space.snap(rng.random((SPREAD_CANDIDATES, len(space))))
    if len(points):
        placed = np.where(np.isnan(points), 0.5, points)
        gaps = np.abs(candidates[:, None, :] - placed[None, :, :])
        distances = np.minimum(gaps, 1.0 - gaps)
        nearest = (distances**2).sum(-1).min(axis=1)
        # Rounded, so that it is chance that decides between equally far ones.
        candidates = candidates[[np.argmax(nearest.round(9))]]
    return space.activate(candidates[:1])[0]


def _from_portfolio(study: Study, past: Past, count: int, rng: np.random.Generator) -> Decision:
    """What did best over the past tasks, in the portfolio's order."""
    fresh = [point for point in past.portfolio if key_of(point) not in study.tried][:count]
    fresh = _spread(study, fresh, count, rng)
    return Decision(
        configurations=tuple(study.space.decode(np.stack(fresh))),
        source=Source.PORTFOLIO,
        reason=f"Among what did best, on average, over {len(past.tasks)} past tasks.",
        past_tasks=_heaviest(past, past.relevance),
        trust=1.0,
    )


def _is_stuck(study: Study) -> bool:
    """Whether the next trial should audit history instead of following it.

    Good history and misleading history look alike from within a plateau: where all trials are
    equally good, or equally bad, both models predict them well. One trial far from all others
    tells the two apart, and costs least while nothing else improves: so it comes when the best
    value has stood for AUDIT_AFTER trials, and again after as many more, AUDITS times in all.
    """
    count = len(study.values)
    standing = count - 1 - int(np.argmax(study.values))
    return (
        0 < standing <= AUDITS * AUDIT_AFTER and standing % AUDIT_AFTER == 0 and count <= AUDITED
    )


def _audit(study: Study, trust: float | None, rng: np.random.Generator) -> Decision:
    """A configuration far from all tried, to see whether history is right about it."""
    return Decision(
        configurations=tuple(study.space.decode(np.stack(_spread(study, [], 1, rng)))),
        source=Source.SPACE_FILLING,
        reason="The best value has not improved for some trials: a configuration far from those "
        "tried, to test what history says.",
        trust=trust,
    )


def _from_surrogate(
    study: Study,
    past: Past,
    count: int,
    rng: np.random.Generator,
    switches: Switches,
    named: str,
) -> Decision:
    """What the surrogate expects the largest improvement from."""
    surrogate = _surrogate(study, past, switches, named)
    # Of the history, which a network may be trusted without.
    trust = surrogate.trust if past.tasks and switches.transfer else None
    trusted = trust is not None and trust >= AUDIT_TRUST
    if switches.trust and trusted and count == 1 and _is_stuck(study):
        return _audit(study, trust, rng)
    box = _box(study, past, surrogate, switches)
    chosen: list[Array] = []
    for _ in range(count):
        waiting = np.concatenate([study.running, *[point[None] for point in chosen]])
        believed = surrogate.believing(study.space.features(waiting))
        points = maximise(
            MixtureLogEI(believed),
            study.space,
            box,
            study.best,
            past.candidates,
            rng,
            BRIEF if _is_neural(surrogate) else Effort(),
        )
        tried = study.tried | {key_of(point) for point in chosen}
        fresh = [_first_fresh(points, tried, study, rng)]
        if chosen:
            fresh.insert(0, _nudged(fresh[0], study.space, rng))
        chosen.append(next((p for p in fresh if key_of(p) not in tried), fresh[-1]))
    predicted = surrogate.predict(study.space.features(chosen[0][None]))
    mean, deviation = predicted or (None, None)
    return Decision(
        configurations=tuple(study.space.decode(np.stack(chosen))),
        source=Source.ACQUISITION,
        reason="Largest expected improvement over the best trial so far.",
        past_tasks=_followed(past, surrogate) if trust else (),
        trust=trust,
        mean=mean,
        deviation=deviation,
        shrunk=natural_bounds(box, study.space),
    )


def _surrogate(study: Study, past: Past, switches: Switches, surrogate: str) -> Surrogate:
    transfer, trust = switches.transfer, switches.trust
    if surrogate == GAUSSIAN:
        return gaussian_surrogate(study, past, transfer=transfer, trust=trust)
    network = network_named(surrogate)
    known = knows(network, study.space)
    if not past.tasks or not transfer or known or suits(past, network):
        return neural_surrogate(study, past, network, transfer=transfer, trust=trust)
    followed = gaussian_surrogate(study, past, trust=trust)
    if followed.trust is None or followed.trust >= LOST_TRUST:
        return followed
    # Its surrogate is that of a study that never had a history.
    return replace(neural_surrogate(study, past, network, transfer=False), trust=0.0)


def _box(study: Study, past: Past, surrogate: Surrogate, switches: Switches) -> Box:
    trusted = surrogate.trust is not None and surrogate.trust >= SHRINK_TRUST
    # A network knows where the past was good at every point; its past has no other models.
    if not (switches.shrink and trusted and not _is_neural(surrogate) and past.models):
        return Box.full(study.space)
    predictions = past.models.predict(study.space.features(study.points))
    weights = sharpen(past.relevance, study.values, predictions)
    box = promising_box(past.tasks, weights, study.space)
    return widen(box, study.points, study.values, study.space)


def _is_neural(surrogate: Surrogate) -> bool:
    return surrogate.informed is not None and isinstance(surrogate.informed.model, NeuralModel)


def _first_fresh(
    points: Array, tried: set[bytes] | frozenset[bytes], study: Study, rng: np.random.Generator
) -> Array:
    """The first point not tried before; near the first one where all were."""
    for point in points:
        if key_of(point) not in tried:
            return point
    space = study.space
    start = np.where(np.isnan(points[0]), 0.5, points[0])
    for scale in np.geomspace(0.05, 1.0, 20):
        moved = start + scale * rng.standard_normal(len(space))
        point = space.activate(space.snap(moved[None]))[0]
        if key_of(point) not in tried:
            return point
    # A small discrete space can be used up: repeat the best.
    return points[0]


def _followed(past: Past, surrogate: Surrogate) -> tuple[tuple[str, float], ...]:
    """The past tasks behind a prediction.

    As the trials weigh them in Gaussian processes. A network reads them all at once and has no
    weights to show: as they count beforehand.
    """
    if surrogate.informed is None:
        return ()
    model = surrogate.informed.model
    weights = past.relevance if isinstance(model, NeuralModel) else model.task_weights
    return _heaviest(past, weights)


def _nudged(point: Array, space: Space, rng: np.random.Generator) -> Array:
    """A point beside it, reflected at the bounds.

    Workers that decide at the same time take a batch's different points, but where one knows a
    trial more than the other their batches differ, and might else meet in the very same corner.
    """
    numerical = ~np.asarray(space.is_categorical, dtype=bool)
    moved = np.nan_to_num(point, nan=INACTIVE_POSITION)
    moved = np.abs(moved + NUDGE * numerical * rng.standard_normal(len(space)))
    moved = np.where(moved > 1.0, 2.0 - moved, moved)
    return space.activate(space.snap(moved[None]))[0]


def _heaviest(past: Past, weights: Array) -> tuple[tuple[str, float], ...]:
    """Names and shares of the past tasks that carry most weight, by its absolute amount."""
    total = float(np.abs(weights).sum())
    if not total:
        return ()
    order = np.argsort(-np.abs(weights), kind="stable")[:NAMED_TASKS]
    return tuple((past.tasks[i].name, float(weights[i]) / total) for i in order)
