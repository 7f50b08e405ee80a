"""How well final values are predicted from partial learning curves, on lcbench.

python -m benchmarks.curves --out .cache/curves.csv
python -m benchmarks.curves --out .cache/curves.csv --weights out/curves/weights.safetensors

For each validation task, 50 random configurations of which 10%, 25%, 50% or 75% of the curve is
seen, with 10 other finished curves of the same task or with none: the mean log density of the
final accuracies (in percent), the mean absolute error of the predicted medians, and how many
values the central intervals hold. The peers' spreads and hyperparameters are fitted to history
tasks.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.curve_peers import HORIZON, CurveGP, LastValue, Peer, PowerLaw, Question, Reply
from benchmarks.problems import DATA, DataMissingError, YahpoProblem, load_family, split
from metahpo.surrogate.curves.curve_predictions import load_weights, predict_curve, shipped_network
from metahpo.surrogate.curves.curve_process import CurveProcess
from metahpo.surrogate.networks.network_file import WeightsError
from metahpo.tasks.task import Trial
from metahpo.train.files import write_log
from metahpo.train.intervals import INTERVALS, coverage

FAMILY = "lcbench"
SHARES, CONTEXTS = (0.1, 0.25, 0.5, 0.75), (0, 10)
# Curves of each history task to which the peers are fitted.
FITTED = 10
MEASURES = ("density", "error", *(f"covered_{share}" for share in INTERVALS))
COLUMNS = ("task", "context", "share", "method", *MEASURES)


class Neural:
    """The neural process.

    Args:
        network: With its weights.
    """

    def __init__(self, network: CurveProcess) -> None:
        self.network = network

    def reply(self, question: Question) -> Reply:
        """Predict one curve after the other, as a study does."""
        others = [
            Trial(configuration, float(values[-1]), curve=_reported(values))
            for configuration, values in zip(question.context, question.whole, strict=True)
        ]
        rows = []
        for configuration, values, final in zip(
            question.configurations, question.seen, question.finals, strict=True
        ):
            ending = predict_curve(
                self.network,
                question.problem.space,
                configuration,
                _reported(values),
                horizon=HORIZON,
                context=others,
            )
            value = torch.tensor([final])
            found = (
                ending.quantile(0.5),
                ending.log_density(value),
                ending.cdf(value),
            )
            rows.append([float(part) for part in found])
        return Reply(*np.array(rows).T)


def _reported(values: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((float(step), float(value)) for step, value in enumerate(values, 1))


def questions(problem: YahpoProblem, count: int) -> Iterator[Question]:
    """The questions about a task: the same configurations each time."""
    rng = np.random.default_rng(zlib.crc32(f"curves {problem.name}".encode()))
    points = rng.random((count + max(CONTEXTS), len(problem.space)))
    configurations = problem.space.decode(problem.space.snap(points))
    _, curves = problem.curves(configurations)
    for context in CONTEXTS:
        for share in SHARES:
            yield Question(
                problem,
                configurations[:count],
                curves[:count],
                int(share * HORIZON),
                configurations[count : count + context],
                curves[count : count + context],
            )


def rows_of(methods: dict[str, Peer], question: Question) -> Iterator[dict[str, object]]:
    """A row for each method."""
    for name, method in methods.items():
        reply = method.reply(question)
        inside = coverage(torch.from_numpy(reply.places))
        yield {
            "task": question.problem.name,
            "context": len(question.context),
            "share": SHARES[[int(share * HORIZON) for share in SHARES].index(question.count)],
            "method": name,
            "density": float(np.mean(reply.log_densities)),
            "error": float(np.mean(np.abs(reply.medians - question.finals))),
            **{f"covered_{s}": c for s, c in zip(INTERVALS, inside, strict=True)},
        }


def table(rows: Sequence[dict[str, object]]) -> str:
    """Means over tasks, as Markdown."""
    heads = [f"{share:.0%}" for share in SHARES]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(SHARES)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for measure in MEASURES:
        for context in CONTEXTS:
            for method in methods:
                cells = [
                    np.mean(
                        [
                            float(str(row[measure]))
                            for row in rows
                            if (row["method"], row["context"], row["share"])
                            == (method, context, share)
                        ]
                    )
                    for share in SHARES
                ]
                figures = " | ".join(f"{cell:.2f}" for cell in cells)
                lines.append(f"| {measure}, {context} curves: {method} | {figures} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Compare, print the table and write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curves",
        description="How well final values are predicted from partial learning curves.",
    )
    parser.add_argument("--weights", type=Path, help="default: those of the package")
    parser.add_argument("--part", choices=("history", "validation"), default="validation")
    parser.add_argument("--count", type=int, default=50, help="configurations a task; 50")
    parser.add_argument("--tasks", type=int, default=100, help="at most so many")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    parser.add_argument("--out", type=Path, help="CSV, a row a task, context, share and method")
    arguments = parser.parse_args(argv)
    if min(arguments.count, arguments.tasks) < 1:
        parser.error("--count and --tasks must be at least 1")
    try:
        network = load_weights(arguments.weights) if arguments.weights else shipped_network()
        family, parts = load_family(FAMILY, arguments.data), split(FAMILY, arguments.data)
    except (DataMissingError, WeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    history = [YahpoProblem(family, task) for task in parts.history]
    problems = [YahpoProblem(family, task) for task in getattr(parts, arguments.part)]
    fitted = [question for problem in history for question in questions(problem, FITTED)]
    methods: dict[str, Peer] = {
        "ConvCNP": Neural(network),
        "last value": LastValue(fitted),
        "power law": PowerLaw(fitted),
        "GP": CurveGP(fitted),
    }
    rows = [
        row
        for problem in tqdm(problems[: arguments.tasks], disable=None)
        for question in questions(problem, arguments.count)
        for row in rows_of(methods, question)
    ]
    print(table(rows))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_log(arguments.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
