"""Compare the steps of the learned optimizer and AdamW: sizes by layer, likeness to known rules.

    python examples/audit_optimizer.py

A network learns scikit-learn's handwritten digits for 300 steps. Prints a table for each
optimizer; ``--to FOLDER`` also writes figures (needs plotly).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from metahpo import LearnedOptimizer
from metahpo.optim import Audit


def audited(name: str, steps: int) -> Audit:
    """Train a network under audit."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = (
        LearnedOptimizer(network, num_steps=steps)
        if name == "learned"
        else torch.optim.AdamW(network.parameters())
    )
    with Audit(network.named_parameters(), optimizer, every=5) as audit:
        for _ in range(steps):
            rows = torch.randint(len(inputs), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return audit


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--to", type=Path, help="folder for figures (needs plotly)")
    options = parser.parse_args(arguments)
    for name in ("learned", "adamw"):
        audit = audited(name, options.steps)
        print(f"{name}:\n{audit}\n", flush=True)
        if options.to:
            options.to.mkdir(parents=True, exist_ok=True)
            audit.figure().write_html(options.to / f"{name}.html")


if __name__ == "__main__":
    main()
