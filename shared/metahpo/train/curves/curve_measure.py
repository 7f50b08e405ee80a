"""Quality of predicted final values from partial curves of held-out tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metahpo.surrogate.curves.curve_predictions import curve_distribution
from metahpo.surrogate.curves.curve_process import CurveProcess
from metahpo.train.curves.curve_batches import MAX_CONTEXT, CurveBatch
from metahpo.train.curves.recorded_curves import CurveRecord, recorded_curves
from metahpo.train.intervals import coverage

# Numbers of context curves; studies drawn from each task; observed share of a curve.
CONTEXTS, VALIDATION_STUDIES, OBSERVED_SHARE = (0, MAX_CONTEXT), 8, 0.25


@dataclass(frozen=True)
class CurveQuality:
    """Quality of predictions of final values.

    Attributes:
        log_density: Mean log density, in the curves' own units.
        error: Mean absolute error of the predicted means, in the curves' own units.
        coverage: Coverage of the central intervals in ``INTERVALS``.
    """

    log_density: float
    error: float
    coverage: tuple[float, ...]


def validation_batches(records: Sequence[CurveRecord], context: int) -> list[CurveBatch]:
    """Return studies of each task in which final values are predicted, always the same."""
    batches = []
    for number, record in enumerate(records):
        rng = np.random.default_rng((number, context))
        batch = recorded_curves([record], VALIDATION_STUDIES, context, rng, augment=False)
        batch.now.fill_(OBSERVED_SHARE)
        batches.append(batch)
    return batches


def curve_quality(network: CurveProcess, batches: Sequence[CurveBatch]) -> CurveQuality:
    """Return the network's quality at the first query of each batch, the end of the curves."""
    densities, errors, cdf_values = [], [], []
    for batch in batches:
        batch = batch.to(network.borders.device)
        with torch.no_grad():
            output = network(
                batch.description, batch.curves, batch.now, batch.queries[:, :1], batch.context
            )
        predicted = curve_distribution(network, output)
        targets = batch.targets[:, batch.context :, :1]
        units = output.observed.unit[:, batch.context :].unsqueeze(-1)
        observed = (output.observed.reports[:, batch.context :] > 0).unsqueeze(-1)
        known = targets.isfinite() & observed
        filled = targets.nan_to_num(0.0)
        densities.append((predicted.log_density(filled) + units.log())[known])
        errors.append(((predicted.mean - filled).abs() / units)[known])
        cdf_values.append(predicted.cdf(filled)[known])
    return CurveQuality(
        float(torch.cat(densities).mean()),
        float(torch.cat(errors).mean()),
        coverage(torch.cat(cdf_values)),
    )
