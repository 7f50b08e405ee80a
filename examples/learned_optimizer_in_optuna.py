"""The learned optimizer in Optuna's trials: alone, and as one choice beside AdamW and SGD.

    python examples/learned_optimizer_in_optuna.py

Three studies tune the network of ``mlp_problem.py`` on a data set of KEEL's repository:

- ``AdamW``: shape of the network, regularisation, and a learning rate under cosine decay;
- ``learned``: the same without a learning rate;
- ``choice``: the optimizer is a hyperparameter too; only AdamW and SGD have a learning rate.

Prints the best validation log-loss after each number of trials (mean over seeds), and how often
the last study tried each optimizer and found it best.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import optuna
import torch
from mlp_problem import Data, build_network, evaluate, load
from torch import nn

from metahpo import LearnedOptimizer
from optuna_meta import MetaSampler

STEPS = 400
STUDIES = {"AdamW": ("adamw",), "learned": ("learned",), "choice": ("learned", "adamw", "sgd")}


def objective(trial: optuna.Trial, data: Data, optimizers: Sequence[str], seed: int) -> float:
    """Validation log-loss after a training; NaN, which fails the trial, if it diverged."""
    torch.manual_seed(seed)
    configuration = {
        "num_layers": trial.suggest_int("num_layers", 1, 4),
        "width": trial.suggest_int("width", 8, 256, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
    }
    batch = trial.suggest_int("batch_size", 16, 256, log=True)
    network = build_network(data.train_inputs.shape[1], data.classes, configuration)
    name = optimizers[0]
    if len(optimizers) > 1:
        name = trial.suggest_categorical("optimizer", optimizers)
    optimizer, scheduler = build_optimizer(trial, network, name)
    for _ in range(STEPS):
        rows = torch.randint(len(data.train_inputs), (batch,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            network(data.train_inputs[rows]), data.train_classes[rows]
        )
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return evaluate(network, data).log_loss


def build_optimizer(
    trial: optuna.Trial, network: nn.Module, name: str
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """The optimizer, and a learning rate schedule unless it has its own."""
    if name == "learned":
        return LearnedOptimizer(network, num_steps=STEPS), None
    rate = trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    optimizer = (
        torch.optim.AdamW(network.parameters(), lr=rate)
        if name == "adamw"
        else torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)


def tuned(data: Data, optimizers: Sequence[str], seed: int, trials: int) -> optuna.Study:
    """Run a study and return it."""
    study = optuna.create_study(sampler=MetaSampler(seed=seed))
    study.optimize(lambda trial: objective(trial, data, optimizers, seed), n_trials=trials)
    return study


def best_so_far(study: optuna.Study) -> np.ndarray:
    """The lowest value after each trial."""
    values = [math.inf if t.value is None else t.value for t in study.trials]
    return np.minimum.accumulate(values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="texture", help="name of a KEEL data set")
    parser.add_argument("--trials", type=int, default=12, help="trials per study")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = load(options.dataset)
    shown = [count for count in (1, 3, 6, 12) if count <= options.trials]
    print(f"Best validation log-loss so far on {options.dataset!r}; mean over seeds")
    print("after trial  " + "".join(f"{count:9}" for count in shown))
    for name, optimizers in STUDIES.items():
        studies = [tuned(data, optimizers, s, options.trials) for s in range(options.seeds)]
        curve = np.mean([best_so_far(study) for study in studies], axis=0)
        print(f"{name:13}" + "".join(f"{curve[count - 1]:9.4f}" for count in shown), flush=True)
    tried = Counter(t.params["optimizer"] for study in studies for t in study.trials)
    best = Counter(study.best_params["optimizer"] for study in studies)
    for label, counts in (("Tried", tried), ("Best", best)):
        print(f"{label} in 'choice': " + ", ".join(f"{n} {c} x" for n, c in counts.most_common()))


if __name__ == "__main__":
    main()
