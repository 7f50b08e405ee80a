"""How well final values are predicted from partial curves of tasks that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metahpo.surrogate.curves.curve_predictions import distribution
from metahpo.surrogate.curves.curve_process import CurveProcess
from metahpo.train.curves.curve_episodes import (
    MOST_CONTEXT,
    CurveBatch,
    CurveRecord,
    recorded_curves,
)
from metahpo.train.surrogate.measure import coverage

# Sizes of context at which is validated, studies a task, and the share of a curve that is seen.
CONTEXTS, VALIDATION_STUDIES, SEEN = (0, MOST_CONTEXT), 8, 0.25


@dataclass(frozen=True)
class CurveQuality:
    """Of predictions of final values.

    Attributes:
        log_density: The mean, in the curves' own units.
        error: Mean absolute error of the means, likewise.
        coverage: Of the central intervals in ``INTERVALS``.
    """

    log_density: float
    error: float
    coverage: tuple[float, ...]


def validation_batches(records: Sequence[CurveRecord], context: int) -> list[CurveBatch]:
    """For each task, studies whose final values are asked about, the same each time."""
    batches = []
    for number, record in enumerate(records):
        rng = np.random.default_rng((number, context))
        batch = recorded_curves([record], VALIDATION_STUDIES, context, rng, varied=False)
        batch.now.fill_(SEEN)
        batches.append(batch)
    return batches


def curve_quality(network: CurveProcess, batches: Sequence[CurveBatch]) -> CurveQuality:
    """The network's quality on the first of the progresses asked for, the end."""
    densities, errors, places = [], [], []
    for whole in batches:
        batch = whole.to(network.borders.device)
        with torch.no_grad():
            answer = network(
                batch.description, batch.curves, batch.now, batch.asked[:, :1], batch.context
            )
        told, targets = distribution(network, answer), batch.targets[:, batch.context :, :1]
        units = answer.seen.unit[:, batch.context :].unsqueeze(-1)
        known = targets.isfinite() & (answer.seen.reports[:, batch.context :] > 0).unsqueeze(-1)
        filled = targets.nan_to_num(0.0)
        densities.append((told.log_density(filled) + units.log())[known])
        errors.append(((told.mean - filled).abs() / units)[known])
        places.append(told.cdf(filled)[known])
    return CurveQuality(
        float(torch.cat(densities).mean()),
        float(torch.cat(errors).mean()),
        coverage(torch.cat(places)),
    )
