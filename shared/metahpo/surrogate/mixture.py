"""The surrogate of a study: an informed model and a target-only one, weighed by evidence.

The informed model knows more than the study's own trials: past tasks, or what a network was
meta-trained on. The target-only one knows these trials alone. Each one's weight follows from the
predictive densities of the target's values, one after the other, given the ones before. Knowledge
that misleads loses weight with every value that it did not expect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from metahpo.surrogate.gp.closed_form import ClosedFormGP
from metahpo.surrogate.neural.neural_model import NeuralModel
from metahpo.surrogate.scores import Warp
from metahpo.tasks.space import Array

# Log odds for the informed model before any evidence.
PRIOR_LOG_ODDS = 2.0
# Likewise for past tasks in a network's context against leaving them out.
PAST_LOG_ODDS = 1.0
# What one trial can add to the log odds or take from them: a Gaussian density makes too much of
# one surprise.
MOST_PER_TRIAL = 3.0
# A component of less weight is left out: it costs time and changes nothing.
NEGLIGIBLE = 0.002


# What predicts the scores of one study.
ScoreModel: TypeAlias = ClosedFormGP | NeuralModel


@dataclass(frozen=True, eq=False)
class Component:
    """One model of the mixture.

    Attributes:
        weight: In [0, 1].
        model: Predicts scores.
        warp: Values to its scores.
        log_densities: n, of each observed value given the ones before it; NaN where that is not
            known, which is evidence of nothing.
        informed: Whether it knows more than the study's own trials.
        knows_unit: Whether the warp's unit is the values'; else it is made up, and the model
            says nothing about values.
    """

    weight: float
    model: ScoreModel
    warp: Warp
    log_densities: Array
    informed: bool
    knows_unit: bool = True


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A mixture of one or two models, heaviest first.

    Attributes:
        components: Their weights sum to 1, less what was negligible.
        trust: Weight of the informed model, 0 where it is one that left misleading past tasks
            out; None where there is none.
    """

    components: tuple[Component, ...]
    trust: float | None

    @property
    def informed(self) -> Component | None:
        """The informed component, if it carries weight."""
        return next((c for c in self.components if c.informed), None)

    def believing(self, X: Array) -> Surrogate:
        """The surrogate with trials that are still running, believed at their means.

        Args:
            X: m x p features.
        """
        if not len(X):
            return self
        components = tuple(replace(c, model=c.model.believing(X)) for c in self.components)
        return replace(self, components=components)

    def predict(self, X: Array) -> tuple[float, float] | None:
        """Mean and standard deviation of the value at one point, by the heaviest component.

        Args:
            X: 1 x p features.

        Returns:
            None where that component says nothing about values, or nothing finite.
        """
        heaviest = self.components[0]
        if not heaviest.knows_unit:
            return None
        with torch.no_grad():
            mean, variance = heaviest.model.mean_and_variance(torch.as_tensor(X))
        score, deviation = float(mean[0]), math.sqrt(float(variance[0]))
        low, centre, high = heaviest.warp.values(
            np.array([score - deviation, score, score + deviation])
        )
        predicted = float(centre), float(high - low) / 2.0
        return predicted if all(map(math.isfinite, predicted)) else None


def mix(
    informed: Component | None, target: Component | None, contradiction: float = 0.0
) -> Surrogate:
    """Both models, or the one that there is, with weights that follow from the evidence.

    Args:
        informed: The model that knows more.
        target: The one that knows the study's own trials alone.
        contradiction: What is taken from the informed one's log odds besides, at least 0.
    """
    if informed is None or target is None:
        only = informed or target
        assert only is not None
        return Surrogate((only,), 1.0 if only.informed else None)
    log_odds = PRIOR_LOG_ODDS - contradiction
    log_odds += _advantage(informed.log_densities, target.log_densities)
    trust = 1.0 / (1.0 + math.exp(-np.clip(log_odds, -50.0, 50.0)))
    weighed = [
        replace(component, weight=weight)
        for component, weight in ((informed, trust), (target, 1.0 - trust))
        if weight > NEGLIGIBLE
    ]
    return Surrogate(tuple(sorted(weighed, key=lambda c: -c.weight)), trust)


def misleads(with_past: Array, without_past: Array) -> bool:
    """Whether a network predicted so much worse with past tasks that they are to be left out.

    Args:
        with_past: n, log density of each observed value given the ones before it.
        without_past: n, by the network that does not read the past tasks.
    """
    return PAST_LOG_ODDS + _advantage(with_past, without_past) < 0.0


def _advantage(one: Array, other: Array) -> float:
    """Log Bayes factor of one model over another, to which no trial adds too much.

    Args:
        one: n log predictive densities.
        other: n. The first trial is left out: a target-only model did not predict it.
    """
    differences = np.clip(one - other, -MOST_PER_TRIAL, MOST_PER_TRIAL)
    return float(np.nansum(differences[1:]))
