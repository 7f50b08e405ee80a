"""A mixture of two surrogates, weighed by evidence.

The informed one rests on more than the study's own trials: past tasks, or what a network was
meta-trained on. The target-only one is fitted to these trials alone. Each one's weight follows
from the predictive densities of the study's values, one after the other, given the ones before.
Misleading prior knowledge loses weight with each value it predicts badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metahpo.settings import Effort, TrustSettings
from metahpo.surrogate.contract import Improvement, Surrogate
from metahpo.tasks.space import Array


@dataclass(frozen=True, eq=False)
class Member:
    """One surrogate of a mixture.

    Attributes:
        surrogate: The surrogate.
        weight: In [0, 1].
        informed: Whether it rests on more than the study's own trials.
    """

    surrogate: Surrogate
    weight: float
    informed: bool


@dataclass(frozen=True, eq=False)
class Mixture:
    """One or two surrogates, heaviest first; itself a ``metahpo.surrogate.contract.Surrogate``.

    Attributes:
        members: Their weights sum to 1, less what was negligible.
        trust: Weight of the informed surrogate, 0 where it is one that left misleading past tasks
            out; None where there is none.
    """

    members: tuple[Member, ...]
    trust: float | None

    @property
    def _leading(self) -> Surrogate:
        """The informed surrogate, if it carries weight, or else the heaviest."""
        informed = (m.surrogate for m in self.members if m.informed)
        return next(informed, self.members[0].surrogate)

    @property
    def effort(self) -> Effort:
        """That of the informed surrogate, if it carries weight."""
        return self._leading.effort

    @property
    def task_weights(self) -> Array:
        """``t``, of the informed surrogate; empty where it carries no weight."""
        return self._leading.task_weights

    @property
    def log_densities(self) -> Array:
        """``n``, of the mixture with its present weights."""
        weighed = [m.surrogate.log_densities + math.log(m.weight) for m in self.members]
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            return np.logaddexp.reduce(weighed)

    def predict(self, points: Array) -> tuple[Array, Array] | None:
        """Means and standard deviations by the heaviest member, ``n`` each."""
        return self.members[0].surrogate.predict(points)

    def improvement(self, points: Tensor) -> Improvement:
        """Of ``batch_shape x d`` points.

        The expected improvement under a mixture is the mixture of the expected improvements, and
        likewise the probability.
        """
        found = [m.surrogate.improvement(points) for m in self.members]
        if len(found) == 1:
            return found[0]
        logs = [
            f.log_expected + math.log(m.weight) for f, m in zip(found, self.members, strict=True)
        ]
        weighed = [m.weight * f.probability for f, m in zip(found, self.members, strict=True)]
        return Improvement(torch.logaddexp(*logs), torch.stack(weighed).sum(0))

    def condition_on_pending(self, points: Array) -> Mixture:
        """Every member at ``m x d`` pending trials."""
        return self._with(lambda surrogate: surrogate.condition_on_pending(points))

    def relative_to(self, points: Array) -> Mixture:
        """Every member relative to its own means at ``m x d`` points."""
        return self._with(lambda surrogate: surrogate.relative_to(points))

    def _with(self, change: Callable[[Surrogate], Surrogate]) -> Mixture:
        members = (replace(m, surrogate=change(m.surrogate)) for m in self.members)
        return replace(self, members=tuple(members))


def mix(
    informed: Surrogate | None,
    target: Surrogate | None,
    settings: TrustSettings,
    contradiction: float = 0.0,
) -> Mixture:
    """Both surrogates with weights that follow from the evidence, or the one that there is.

    Args:
        informed: Rests on more than the study's own trials.
        target: Fitted to these alone.
        settings: How they are weighed.
        contradiction: What is taken from the informed one's log odds besides, at least 0.

    Raises:
        ValueError: Without either.
    """
    if informed is None or target is None:
        only = informed or target
        if only is None:
            raise ValueError("a mixture needs a surrogate")
        return Mixture((Member(only, 1.0, informed is not None),), 1.0 if informed else None)
    log_odds = settings.prior_log_odds - contradiction
    log_odds += _advantage(informed.log_densities, target.log_densities, settings.most_per_trial)
    trust = 1.0 / (1.0 + math.exp(-np.clip(log_odds, -50.0, 50.0)))
    members = (Member(informed, trust, True), Member(target, 1.0 - trust, False))
    return Mixture(_heaviest_first(members, settings.negligible), trust)


def _heaviest_first(members: Sequence[Member], negligible: float) -> tuple[Member, ...]:
    kept = [member for member in members if member.weight > negligible]
    return tuple(sorted(kept, key=lambda member: -member.weight))


def misleads(with_past: Array, without_past: Array, settings: TrustSettings) -> bool:
    """Whether a network predicts so much worse with past tasks that they are to be left out.

    Args:
        with_past: ``n``, log density of each observed value given the ones before it.
        without_past: ``n``, by the network that does not read the past tasks.
        settings: How they are weighed.
    """
    advantage = _advantage(with_past, without_past, settings.most_per_trial)
    return settings.past_prior_log_odds + advantage < 0.0


def _advantage(one: Array, other: Array, most: float) -> float:
    """Log Bayes factor of one model over another, to which no trial adds too much.

    Args:
        one: ``n`` log predictive densities.
        other: ``n``. The first trial is left out: a target-only model did not predict it, nor
            the first of those that it sees of a long study, where it has NaN.
        most: The most that one trial adds or takes.
    """
    return float(np.nansum(np.clip(one - other, -most, most)[1:]))
