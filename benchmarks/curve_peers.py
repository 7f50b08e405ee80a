"""Methods that the neural process over learning curves is compared with.

Each answers with a location and a spread; what they do not know of their own spread is fitted to
tasks of the history split. All accuracies are in percent, predictions are kept within 0 and 100.

last value    the last report; Gaussian, its deviation by the share of the curve that is seen
power law     a - b t^-c by least squares (Domhan et al. 2015); Laplace, its scale grows with how
              far the fit goes beyond the last report
GP            over configuration and progress: a sum of a part that stays and one that decays as in
              freeze-thaw optimisation (Swersky et al. 2014), both with what curves of similar
              configurations share and what is a curve's own; hyperparameters by the marginal
              likelihood of history tasks, the deviations rescaled to them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import laplace, norm

from benchmarks.problems import YahpoProblem
from metahpo.tasks.space import Array, Configuration

HORIZON, CEILING = 52, 100.0
# Steps at which the GP's hyperparameters see curves, and every which step of the context it sees.
GP_STEPS, GP_EVERY, GP_ITERATIONS = 13, 2, 120


@dataclass(frozen=True, eq=False)
class Question:
    """Curves whose ends are to be predicted.

    Attributes:
        problem: Where they come from.
        configurations: n, of the curves.
        curves: ``n x HORIZON``, of which ``count`` values are seen.
        count: So many.
        context: Other configurations.
        whole: Their curves, k x HORIZON.
    """

    problem: YahpoProblem
    configurations: Sequence[Configuration]
    curves: Array
    count: int
    context: Sequence[Configuration]
    whole: Array

    @property
    def finals(self) -> Array:
        """The values at the ends, ``n``."""
        return self.curves[:, -1]

    @property
    def seen(self) -> Array:
        """The observed values, ``n x count``."""
        return self.curves[:, : self.count]

    @property
    def key(self) -> tuple[int, int]:
        """The progress that spreads depend on."""
        return self.count, len(self.context)


@dataclass(frozen=True, eq=False)
class Reply:
    """Predictions of n final values.

    Attributes:
        medians: n.
        log_densities: n, of the values that came.
        places: n, predictive distribution functions at these values.
    """

    medians: Array
    log_densities: Array
    places: Array


class Peer(Protocol):
    """A method that predicts final values."""

    def reply(self, question: Question) -> Reply:
        """Predictions for all curves of a question."""
        ...


def bounded(values: Array) -> Array:
    """Clip to the range of accuracies."""
    return np.clip(values, 0.0, CEILING)


# ---- last value ----------------------------------------------------------------------------


class LastValue:
    """The last report, and a Gaussian fitted to history.

    Args:
        history: Questions on history tasks.
    """

    def __init__(self, history: Sequence[Question]) -> None:
        gained: dict[tuple[int, int], list[Array]] = {}
        for question in history:
            gained.setdefault(question.key, []).append(question.finals - question.seen[:, -1])
        self.deviation = {
            key: float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
            for key, parts in gained.items()
        }

    def reply(self, question: Question) -> Reply:
        """Gaussians around the last reports."""
        ends = norm(question.seen[:, -1], self.deviation[question.key])
        return Reply(ends.mean(), ends.logpdf(question.finals), ends.cdf(question.finals))


# ---- power law -----------------------------------------------------------------------------


def power_law(values: Array) -> float:
    """What ``a - b t^-c``, fitted to the first values by least squares, is at the end."""
    steps = np.arange(1, len(values) + 1, dtype=float)

    def fitted(log_power: float) -> tuple[float, Array]:
        # For a given c, a and b are linear.
        columns = np.stack([np.ones_like(steps), -(steps ** -np.exp(log_power))], 1)
        weights = np.linalg.lstsq(columns, values, rcond=None)[0]
        return float(np.sum((columns @ weights - values) ** 2)), weights

    found = minimize_scalar(
        lambda x: fitted(x)[0], bounds=(np.log(0.02), np.log(5.0)), method="bounded"
    )
    a, b = fitted(found.x)[1]
    return float(a - b * HORIZON ** -np.exp(found.x))


class PowerLaw:
    """Power laws, and a Laplace distribution fitted to history.

    Args:
        history: Questions on history tasks.
    """

    def __init__(self, history: Sequence[Question]) -> None:
        pairs: dict[tuple[int, int], list[tuple[Array, Array]]] = {}
        for question in history:
            means, ahead = self._extrapolated(question)
            errors = np.abs(question.finals - means)
            pairs.setdefault(question.key, []).append((errors, ahead))
        self.spread = {
            key: self._fitted(*(np.concatenate(part) for part in zip(*parts, strict=True)))
            for key, parts in pairs.items()
        }

    @staticmethod
    def _extrapolated(question: Question) -> tuple[Array, Array]:
        means = bounded(np.array([power_law(values) for values in question.seen]))
        return means, np.abs(means - question.seen[:, -1])

    @staticmethod
    def _fitted(errors: Array, ahead: Array) -> Array:
        def negative(logs: Array) -> float:
            scale = np.exp(logs[0]) + np.exp(logs[1]) * ahead
            return float(np.mean(errors / scale + np.log(2 * scale)))

        return np.exp(minimize(negative, np.log([0.5, 0.3]), method="Nelder-Mead").x)

    def reply(self, question: Question) -> Reply:
        """Laplace distributions around the fits."""
        means, ahead = self._extrapolated(question)
        least, share = self.spread[question.key]
        ends = laplace(means, least + share * ahead)
        return Reply(means, ends.logpdf(question.finals), ends.cdf(question.finals))


# ---- Gaussian process ----------------------------------------------------------------------


class CurveGP:
    """A Gaussian process over configuration and progress.

    Args:
        history: Questions on history tasks; some of their curves give the hyperparameters.
    """

    def __init__(self, history: Sequence[Question]) -> None:
        tasks = {question.problem.name: question for question in history if question.context}
        studies = [self._study(question) for question in tasks.values()]
        dimensions = studies[0][0].shape[-1] - 2
        # Four amplitudes, noise, power and delay of the decay, then the lengthscales.
        start = [0.0, -1.0, 0.0, -1.0, -4.0, 0.0, -2.0, *[0.0] * dimensions]
        self.raw = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.mean = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([self.raw, self.mean], lr=0.05)
        for _ in range(GP_ITERATIONS):
            optimizer.zero_grad()
            loss = torch.stack([-self._evidence(X, y) for X, y in studies]).mean()
            loss.backward()
            optimizer.step()
        self.stretch = dict.fromkeys({question.key for question in history}, 1.0)
        squares: dict[tuple[int, int], list[Array]] = {}
        for question in history:
            mean, deviation = self._posterior(question)
            ratios = ((question.finals - mean) / deviation) ** 2
            squares.setdefault(question.key, []).append(ratios)
        self.stretch = {
            key: float(np.sqrt(np.mean(np.concatenate(parts)))) for key, parts in squares.items()
        }

    def reply(self, question: Question) -> Reply:
        """Gaussians."""
        mean, deviation = self._posterior(question)
        ends = norm(bounded(mean), deviation * self.stretch[question.key])
        return Reply(ends.mean(), ends.logpdf(question.finals), ends.cdf(question.finals))

    @staticmethod
    def _inputs(question: Question, which: Sequence[Configuration]) -> Array:
        points = question.problem.space.encode(list(which))
        return np.nan_to_num(points, nan=0.5)

    def _study(self, question: Question) -> tuple[torch.Tensor, torch.Tensor]:
        steps = np.unique(np.geomspace(1, HORIZON, GP_STEPS).round().astype(int))
        return _rows(self._inputs(question, question.context), question.whole[:, steps - 1], steps)

    def _evidence(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        covariance = self._kernel(X, X) + self._noise * torch.eye(len(X))
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (y - self.mean).unsqueeze(-1), upper=False)
        return -(0.5 * white.square().sum() + root.diagonal().log().sum()) / len(X)

    @property
    def _noise(self) -> torch.Tensor:
        return (2 * self.raw[4]).exp() + 1e-8

    def _kernel(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Covariance of rows (curve, progress, configuration)."""
        lengths = self.raw[7:].exp()
        near = torch.exp(-0.5 * torch.cdist(A[:, 2:] / lengths, B[:, 2:] / lengths).square())
        same = (A[:, :1] == B[:, 0]).double()
        stays, own, shared, own_decay = (2 * self.raw[:4]).exp()
        power, delay = self.raw[5].exp(), self.raw[6].exp()
        decay = (delay / (A[:, 1:2] + B[:, 1] + delay)) ** power
        return stays * near + own * same + decay * (shared * near + own_decay * same)

    def _posterior(self, question: Question) -> tuple[Array, Array]:
        with torch.no_grad():
            steps = np.arange(GP_EVERY, HORIZON + 1, GP_EVERY)
            context = self._inputs(question, question.context) if question.context else None
            known = None
            if context is not None:
                known = _rows(context, question.whole[:, steps - 1], steps)
            found = [
                self._at_end(known, point, values)
                for point, values in zip(
                    self._inputs(question, question.configurations), question.seen, strict=True
                )
            ]
        means, deviations = np.array(found).T
        return CEILING * means, CEILING * deviations

    def _at_end(
        self, known: tuple[torch.Tensor, torch.Tensor] | None, point: Array, values: Array
    ) -> tuple[float, float]:
        X, y = _rows(point[None], values[None], np.arange(1, len(values) + 1))
        X[:, 0] = -1.0
        end = X[-1:].clone()
        end[:, 1] = 1.0
        if known is not None:
            X, y = torch.cat([known[0], X]), torch.cat([known[1], y])
        root = torch.linalg.cholesky(self._kernel(X, X) + self._noise * torch.eye(len(X)))
        across = torch.linalg.solve_triangular(root, self._kernel(X, end), upper=False)
        white = torch.linalg.solve_triangular(root, (y - self.mean).unsqueeze(-1), upper=False)
        variance = self._kernel(end, end).squeeze() + self._noise - across.square().sum()
        return float(self.mean + (across * white).sum()), float(variance.clamp_min(1e-10).sqrt())


def _rows(points: Array, curves: Array, steps: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Curves as rows (curve, progress, configuration), and their values as shares."""
    count, width = curves.shape
    curve = np.repeat(np.arange(count), width)[:, None]
    progress = np.tile(steps / HORIZON, count)[:, None]
    X = np.concatenate([curve, progress, np.repeat(points, width, axis=0)], 1)
    return torch.from_numpy(X.astype(float)), torch.from_numpy(curves.ravel() / CEILING)
