"""Folders as Ray Tune writes them, for tests."""

import json
from pathlib import Path
from typing import Any

START = 1_700_000_000


def write_trial(
    experiment: Path,
    number: int,
    params: dict[str, Any],
    values: list[Any],
    iterations: list[int] | None = None,
    more: list[dict[str, Any]] | None = None,
) -> Path:
    """A trial's folder as Ray 2 leaves it, with one report a second and more in each."""
    folder = experiment / f"train_0a1b2_{number:05d}_{number}_2025-03-01_12-00-00"
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params, indent=2))
    # Whoever opens it is caught.
    (folder / "params.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    lines = [
        {
            "eval": {"acc": value},
            "loss": 1.0,
            "timestamp": START + 100 * number + i,
            "time_this_iter_s": 1.0,
            "time_total_s": float(i),
            "training_iteration": iteration,
            "date": f"2025-03-01_12-00-{i:02d}",
            "done": False,
            "config": params,
            **others,
        }
        for i, (value, iteration, others) in enumerate(
            zip(
                values,
                iterations or range(1, len(values) + 1),
                more or [{}] * len(values),
                strict=True,
            ),
            start=1,
        )
    ]
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def params(number: int) -> dict[str, Any]:
    return {"model": {"lr": 10.0**-number, "layers": number}, "seed": 0}
