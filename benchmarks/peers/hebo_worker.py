"""HEBO behind a pipe: JSON lines in, JSON lines out.

HEBO 0.3.6 asks for NumPy below 1.25, which nothing else here does; this file therefore runs in
an environment of HEBO's own (``benchmarks/constraints-hebo.txt``) and imports nothing of the
project.

    {"space": [...], "seed": 0}                     -> {"version": "0.3.6"}
    {"ask": true}                                   -> {"configuration": {...}}
    {"tell": {"configuration": {...}, "cost": 0.1}} -> {}
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")


def main() -> None:
    """Answer until the other end closes."""
    # HEBO's own output must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np
    import pandas as pd
    import torch
    from hebo.design_space.design_space import DesignSpace
    from hebo.optimizers.hebo import HEBO

    torch.set_num_threads(1)
    optimiser = None
    for line in sys.stdin:
        message = json.loads(line)
        answer = {}
        if "space" in message:
            for seed in (np.random.seed, torch.manual_seed, random.seed):
                seed(message["seed"])
            space = DesignSpace().parse(message["space"])
            optimiser = HEBO(space, scramble_seed=message["seed"])
            answer = {"version": version("HEBO")}
        elif "ask" in message:
            row = optimiser.suggest(n_suggestions=1).iloc[0]
            answer = {"configuration": {name: plain(value) for name, value in row.items()}}
        elif "tell" in message:
            rows = pd.DataFrame([message["tell"]["configuration"]])
            optimiser.observe(rows, np.array([[message["tell"]["cost"]]]))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def plain(value):
    """Convert a NumPy number to Python's own."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
