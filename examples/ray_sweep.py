"""A Ray Tune sweep that learns from an earlier one: real training, checkpoints and ASHA.

    pip install 'metahpo[ray]'
    python examples/ray_sweep.py

A small network is trained on scikit-learn's handwritten digits. The earlier sweep uses the first
half of the digits. The present sweep uses the second half and runs twice: with the folder of the
earlier sweep as history, and without. Prints the best accuracy after several numbers of trials.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits

from raytune_meta import MetaSearch

EPOCHS = 8
SPACE = {
    "half": 0,
    "model": {"width": tune.lograndint(4, 129), "dropout": tune.uniform(0.0, 0.8)},
    "lr": tune.loguniform(1e-5, 1.0),
    "batch": tune.choice([16, 64, 256]),
}


def train(config: dict[str, Any]) -> None:
    """Train a network, starting from its checkpoint if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    X, y = np.array_split(X / 16.0, 2)[config["half"]], np.array_split(y, 2)[config["half"]]
    inputs = torch.tensor(X, dtype=torch.float32)
    labels = torch.tensor(y)
    width = config["model"]["width"]
    network = torch.nn.Sequential(
        torch.nn.Linear(64, width),
        torch.nn.ReLU(),
        torch.nn.Dropout(config["model"]["dropout"]),
        torch.nn.Linear(width, 10),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=config["lr"], momentum=0.9)
    done = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder) / "state.pt", weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["epoch"]
    held_out = torch.arange(len(inputs)) % 4 == 0
    for epoch in range(done + 1, EPOCHS + 1):
        network.train()
        for batch in torch.randperm(int((~held_out).sum())).split(config["batch"]):
            optimizer.zero_grad()
            outputs = network(inputs[~held_out][batch])
            torch.nn.functional.cross_entropy(outputs, labels[~held_out][batch]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            correct = network(inputs[held_out]).argmax(1) == labels[held_out]
        with tempfile.TemporaryDirectory() as folder:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
            }
            torch.save(state, Path(folder) / "state.pt")
            tune.report(
                {"accuracy": correct.float().mean().item()},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def sweep(name: str, half: int, search: MetaSearch, options: argparse.Namespace) -> list[float]:
    """Run a sweep and return the best accuracy so far, by trial in the order of their start."""
    tuner = tune.Tuner(
        train,
        param_space=SPACE | {"half": half},
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=2),
            metric="accuracy",
            mode="max",
            num_samples=options.trials,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(options.storage), verbose=0),
    )
    results = tuner.fit()
    found = [(result.metrics or {}).get("accuracy", 0.0) for result in results]
    return np.maximum.accumulate(found).tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweeps and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=12, help="trials per sweep")
    parser.add_argument("--storage", type=Path, help="folder for the results of Ray")
    options = parser.parse_args(arguments)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        options.storage = (options.storage or Path(folder)).absolute()
        sweep("earlier", 0, MetaSearch(seed=0), options)
        search = MetaSearch(history=options.storage / "earlier", seed=1)
        with_history = sweep("present", 1, search, options)
        without = sweep("present-alone", 1, MetaSearch(seed=1), options)
    ray.shutdown()
    print(f"{'trials':>6}  {'with history':>12}  {'without':>8}  {'gain':>7}")
    for count in (1, 2, 4, 8, 12):
        if count <= options.trials:
            a, b = with_history[count - 1], without[count - 1]
            print(f"{count:6d}  {a:12.3f}  {b:8.3f}  {a - b:+7.3f}")


if __name__ == "__main__":
    main()
