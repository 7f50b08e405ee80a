"""What describes a task beforehand: its data, its network, its first steps, as named numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from metahpo.metafeatures.dataset import dataset_metafeatures
from metahpo.metafeatures.dynamics import dynamics_metafeatures

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
    """Meta-features of whatever is known of a task, for ``MetaSampler(task=...)`` and the like.

    Args:
        X: The training data, n x p: a NumPy array, pandas or Arrow table, SciPy sparse matrix,
            torch tensor; images, token sequences or texts; a torch ``Dataset`` or
            ``DataLoader``. Large data is sampled. Never the test data: its targets would leak.
        y: n classes or numbers.
        model: The network.
        example: An input of the network, for its FLOPs: with a batch dimension, a tensor, a
            tuple of arguments or a mapping of keyword arguments.
        curve: Losses of a first run.
        train: Starts a short probe run instead: returns losses one by one.
        gradients: k x w, gradients of k batches at one point.
        batch_size: Examples in each of these batches.
        regression: Whether y is a quantity; None to tell by its values.
        seed: Of the choice of rows and columns of large data.

    Returns:
        Numbers by name: ``dataset.*``, ``network.*`` and ``dynamics.*``, as far as they were
        asked for; NaN for what this data does not tell.

    Raises:
        TypeError: For an ``X`` that is no data set or a ``model`` that is no module.
        ValueError: Where ``X`` and ``y`` differ in length.
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
    """What describes a network; see ``metahpo.metafeatures.network``."""
    # It brings the whole of torch, which a description of a table can do without.
    from metahpo.metafeatures import network

    return network.network_metafeatures(model, example)
