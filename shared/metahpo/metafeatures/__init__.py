"""Descriptions of a task before any trial, as named numbers. Imports no other room of metahpo.

``dataset_features`` (with ``sample``, which reads any container, and one file per group of
features), ``network_features`` and ``dynamics_features``. Public: the names below. Add a group of
features as a function from a ``Sample`` to numbers by name and a line in ``_GROUPS``; names and
definitions of existing features must not change, because archives store them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from metahpo.metafeatures.dataset_features import dataset_metafeatures
from metahpo.metafeatures.dynamics_features import dynamics_metafeatures

if TYPE_CHECKING:
    from torch import nn

__all__ = ["dataset_metafeatures", "dynamics_metafeatures", "extract", "network_metafeatures"]


def extract(
    X: Any = None,
    y: Any = None,
    *,
    model: nn.Module | None = None,
    example: Any = None,
    curve: Any = None,
    train: Callable[[], Iterable[float]] | None = None,
    gradients: Any = None,
    batch_size: int = 1,
    regression: bool | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return the meta-features of a task, for ``MetaSampler(task=...)`` and ``recommend``.

    Args:
        X: Training data, `n x p`: a NumPy array, pandas or Arrow table, SciPy sparse matrix or
            torch tensor; images, token sequences or texts; a torch ``Dataset`` or
            ``DataLoader``. Large data is sampled. Never pass test data: its targets would leak.
        y: `n`, classes or numbers.
        model: The network.
        example: Input of the network, for its FLOPs, batch dimension first: a tensor, a tuple
            of arguments or a mapping of keyword arguments.
        curve: Losses of a first run.
        train: Starts a short probe run instead: returns an iterable of losses.
        gradients: `k x w`, gradients of k batches at the same parameters.
        batch_size: Examples in each of these batches.
        regression: Whether y is a quantity; None decides by its values.
        seed: Seed of the choice of rows and columns of large data.

    Returns:
        Numbers by name: ``dataset.*``, ``network.*`` and ``dynamics.*``, for the arguments that
        were passed; NaN for what cannot be computed.

    Raises:
        TypeError: If ``X`` is not a data set or ``model`` is not a module.
        ValueError: If ``X`` and ``y`` differ in length, or ``batch_size`` is below 1.
    """
    features: dict[str, float] = {}
    if X is not None:
        features |= dataset_metafeatures(X, y, regression=regression, seed=seed)
    if model is not None:
        features |= network_metafeatures(model, example)
    if not (curve is None and train is None and gradients is None):
        features |= dynamics_metafeatures(
            curve, train=train, gradients=gradients, batch_size=batch_size
        )
    return features


def network_metafeatures(model: nn.Module | None, example: Any = None) -> dict[str, float]:
    """Return the meta-features of a network; see ``metahpo.metafeatures.network_features``."""
    # Importing it imports torch, which the meta-features of a table do not need.
    from metahpo.metafeatures import network_features

    return network_features.network_metafeatures(model, example)
