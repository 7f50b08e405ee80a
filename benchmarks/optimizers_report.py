"""Tables and plots of ``benchmarks.optimizers``: losses, speed-up over best-of-8 AdamW, wins.

python -m benchmarks.optimizers_report optimizers.jsonl --plot curves.png
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from benchmarks.optimizer_plots import BASE, OURS, loss_curves
from benchmarks.optimizers import ENDING, RATES, UNTUNED, best_rate, final_loss
from benchmarks.records import read_records

METHODS = (*UNTUNED, BASE, "sgd best of 8")

Record = dict[str, Any]
# task -> seed -> method -> record; tuned methods are there once, as "... best of 8".
Runs = dict[str, dict[int, dict[str, Record]]]


def steps_to(record: Record, loss: float) -> float:
    """Steps until a curve, smoothed as in ``final_loss``, reaches a loss; infinite if never."""
    losses = np.nan_to_num(np.array(record["losses"], float), nan=np.inf, posinf=np.inf)
    window = max(1, round(ENDING * len(losses)))
    padded = np.concatenate([np.full(window - 1, np.inf), losses])
    smooth = np.lib.stride_tricks.sliding_window_view(padded, window).mean(-1)
    [reached] = np.nonzero(smooth <= loss)
    return float((reached[0] + 1) * record["every"]) if len(reached) else math.inf


def arranged(records: Sequence[Record], steps: int) -> Runs:
    """Runs over so many steps; for a tuned method, those at the rate with the least mean loss."""
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    best = {
        (task, tuned): f"{tuned}@{best_rate(records, task, steps, tuned)}"
        for task in {record["task"] for record in records}
        for tuned in RATES
    }
    for record in records:
        task, (name, _, rate) = record["task"], record["method"].partition("@")
        if record["steps"] == steps and record["method"] in (name, best.get((task, name))):
            label = f"{name} best of 8" if rate else name
            runs[task][record["seed"]][label] = record
    return runs


def speed_up(record: Record, base: Sequence[Record]) -> tuple[float, bool]:
    """The steps that AdamW needs for the same loss, over those taken; and if that is a bound.

    Args:
        record: Of the method.
        base: Of best-of-8 AdamW at this task and seed, over as many steps and (if run) over more.
            Where none gets there, the speed-up is at least that over the longest.
    """
    loss = final_loss(record)
    if math.isinf(loss):
        return 0.0, False
    needed = min(steps_to(run, loss) for run in base)
    if math.isinf(needed):
        return max(run["steps"] for run in base) / record["steps"], True
    return needed / record["steps"], False


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half."""
    return float(trim_mean(values, 0.25))


def report(records: Sequence[Record], steps: int) -> str:
    """All tables, in Markdown."""
    runs, longer = arranged(records, steps), arranged(records, 2 * steps)
    parts = [f"{len(records)} trainings; {steps} steps.", _finals(runs)]
    if any(OURS in seeds for task in runs.values() for seeds in task.values()):
        parts += [_speeds(runs, longer), _ours_by_task(runs, longer), _wins(runs)]
    return "\n\n".join(parts)


def _finals(runs: Runs) -> str:
    lines = ["Final training loss (held-out loss), means over seeds; '-' for diverged or not run:"]
    lines += ["", "| task | " + " | ".join(METHODS) + " |", "|---" * (len(METHODS) + 1) + "|"]
    for task, seeds in runs.items():
        cells = []
        for method in METHODS:
            found = [run[method] for run in seeds.values() if method in run]
            loss = float(np.mean([*map(final_loss, found)])) if found else math.inf
            held_out = float(np.mean([r["held_out"][-1][1] for r in found])) if found else math.nan
            cells.append("-" if math.isinf(loss) else f"{loss:.4f} ({held_out:.4f})")
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _speeds(runs: Runs, longer: Runs) -> str:
    """The interquartile mean over tasks and seeds."""
    lines = [
        "Speed-up: steps that best-of-8 AdamW needs for the loss that the method ends with.",
        "Where it never gets there, the steps of its longest training count (a lower bound).",
        "",
        "| method | interquartile mean | pairs of task and seed | bounds | diverged |",
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        found = [pair for task in runs for pair in _speed_ups(runs, longer, task, method)]
        if found:
            values, bounds = zip(*found, strict=True)
            diverged = sum(value == 0.0 for value in values)
            mean = interquartile_mean(values)
            lines.append(f"| {method} | {mean:.2f} | {len(found)} | {sum(bounds)} | {diverged} |")
    return "\n".join(lines)


def _speed_ups(runs: Runs, longer: Runs, task: str, method: str) -> list[tuple[float, bool]]:
    """Speed-ups of a method on a task, one a seed."""
    found = []
    for seed, run in runs[task].items():
        base = [runs_of[task][seed][BASE] for runs_of in (runs, longer)
                if BASE in runs_of.get(task, {}).get(seed, {})]  # fmt: skip
        if method in run and base:
            found.append(speed_up(run[method], base))
    return found


def _ours_by_task(runs: Runs, longer: Runs) -> str:
    """Speed-up and processor time of ours, means over seeds."""
    lines = ["| task | speed-up of ours | its processor time over AdamW's |", "|---|---|---|"]
    for task, seeds in runs.items():
        speeds = [value for value, _ in _speed_ups(runs, longer, task, OURS)]
        both = [run for run in seeds.values() if OURS in run and "adamw" in run]
        if speeds and both:
            ours, adamw = (sum(run[m]["cpu_seconds"] for run in both) for m in (OURS, "adamw"))
            ratio = ours / adamw if adamw else math.nan
            lines.append(f"| {task} | {np.mean(speeds):.2f} | {ratio:.1f} |")
    return "\n".join(lines)


def _wins(runs: Runs) -> str:
    """Shares of tasks (means over seeds) at which ours ends lower."""
    lines = [
        "| against | tasks | lower training loss | lower held-out loss |",
        "|---|---|---|---|",
    ]
    for peer in UNTUNED[1:]:
        training, held_out = [], []
        for seeds in runs.values():
            both = [run for run in seeds.values() if OURS in run and peer in run]
            if both:
                ours, theirs = ([run[m] for run in both] for m in (OURS, peer))
                training.append(np.mean([*map(final_loss, ours)])
                                < np.mean([*map(final_loss, theirs)]))  # fmt: skip
                held_out.append(np.mean([r["held_out"][-1][1] for r in ours])
                                < np.mean([r["held_out"][-1][1] for r in theirs]))  # fmt: skip
        if training:
            lines.append(
                f"| {peer} | {len(training)} | {np.mean(training):.0%} | {np.mean(held_out):.0%} |"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizers_report",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, help="by default those of the shortest training")
    parser.add_argument("--plot", type=Path, help="where to draw the training losses")
    parser.add_argument("--plot-held-out", type=Path, help="where to draw the held-out losses")
    options = parser.parse_args(arguments)
    records = [record for path in options.results for record in read_records(path)]
    if not records:
        print(f"no trainings in {', '.join(map(str, options.results))}", file=sys.stderr)
        return 1
    steps = options.steps or min(record["steps"] for record in records)
    print(report(records, steps))
    for path, held_out in ((options.plot, False), (options.plot_held_out, True)):
        if path:
            loss_curves(arranged(records, steps), path, held_out=held_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
