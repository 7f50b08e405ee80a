"""The learned optimizer in Ray Tune's trials: alone, and as one choice beside AdamW and SGD.

    pip install 'metahpo[ray]'
    python examples/learned_optimizer_in_ray.py

A small convolutional network learns scikit-learn's handwritten digits. The space of the first
sweep has no learning rate; in the second, the optimizer is a hyperparameter, and a learning rate
is tuned only if AdamW or SGD is chosen. An interrupted trial resumes from its checkpoint, which
includes the optimizer's state and its position in the schedule.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from sklearn.datasets import load_digits
from torch import nn

from metahpo import LearnedOptimizer
from raytune_meta import MetaSearch

EPOCHS, BATCH = 6, 32
SHAPE = {"channels": tune.lograndint(4, 33), "dropout": tune.uniform(0.0, 0.6)}
RATE = tune.loguniform(1e-4, 1.0)
SPACES = {
    "learned": {**SHAPE, "optimizer": {"name": "learned"}},
    "choice": {
        **SHAPE,
        "optimizer": tune.choice(
            [{"name": "learned"}, {"name": "adamw", "lr": RATE}, {"name": "sgd", "lr": RATE}]
        ),
    },
}


def build_network(config: dict[str, Any]) -> nn.Sequential:
    """Two convolutions and a linear layer."""
    channels = config["channels"]
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(config["dropout"]),
        nn.Linear(2 * channels * 9, 10),
    )


def build_optimizer(
    network: nn.Module, chosen: dict[str, Any], num_steps: int
) -> torch.optim.Optimizer:
    """Create the optimizer that the configuration names."""
    if chosen["name"] == "learned":
        return LearnedOptimizer(network, num_steps=num_steps)
    if chosen["name"] == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=chosen["lr"])
    return torch.optim.SGD(network.parameters(), lr=chosen["lr"], momentum=0.9)


def train(config: dict[str, Any]) -> None:
    """Train a network; resume from the checkpoint of an interrupted trial."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    inputs = torch.tensor(X / 16.0, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(y)
    held_out = torch.arange(len(labels)) % 4 == 0
    batches = -(-int((~held_out).sum()) // BATCH)
    network = build_network(config)
    optimizer = build_optimizer(network, config["optimizer"], EPOCHS * batches)
    done = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder) / "state.pt", weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["epoch"]
    for epoch in range(done + 1, EPOCHS + 1):
        network.train()
        for batch in torch.randperm(int((~held_out).sum())).split(BATCH):
            optimizer.zero_grad()
            outputs = network(inputs[~held_out][batch])
            nn.functional.cross_entropy(outputs, labels[~held_out][batch]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = network(inputs[held_out]).argmax(1) == labels[held_out]
        with tempfile.TemporaryDirectory() as folder:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
            }
            torch.save(state, Path(folder) / "state.pt")
            tune.report(
                {"accuracy": right.float().mean().item()},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def sweep(name: str, storage: Path, trials: int) -> tune.ResultGrid:
    """Run a sweep over one of ``SPACES`` and return its results."""
    tuner = tune.Tuner(
        train,
        param_space=SPACES[name],
        tune_config=tune.TuneConfig(
            search_alg=MetaSearch(seed=0),
            metric="accuracy",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(storage), verbose=0),
    )
    return tuner.fit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=12, help="trials per sweep")
    parser.add_argument("--storage", type=Path, help="folder for Ray's experiments")
    options = parser.parse_args(arguments)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    shown = [count for count in (1, 2, 4, 8, 12) if count <= options.trials]
    print("Best accuracy on held-out digits so far")
    print("after trial" + "".join(f"{count:8}" for count in shown))
    with tempfile.TemporaryDirectory() as folder:
        storage = (options.storage or Path(folder)).absolute()
        for name in SPACES:
            results = sweep(name, storage, options.trials)
            found = [(result.metrics or {}).get("accuracy", 0.0) for result in results]
            best = np.maximum.accumulate(found)
            print(f"{name:11}" + "".join(f"{best[c - 1]:8.3f}" for c in shown), flush=True)
        tried = Counter((result.config or {})["optimizer"]["name"] for result in results)
        winner = (results.get_best_result().config or {})["optimizer"]["name"]
    ray.shutdown()
    counts = ", ".join(f"{name} {count} x" for name, count in tried.most_common())
    print(f"Tried in 'choice': {counts}; best: {winner}")


if __name__ == "__main__":
    main()
