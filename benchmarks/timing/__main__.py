"""Time and memory of the samplers, of reading histories, and of the learned optimizer.

    python -m benchmarks.timing latency --past 100 --trials 100
    python -m benchmarks.timing methods --methods tpe gp smac meta
    python -m benchmarks.timing scaling --past 10 100 1000 10000
    python -m benchmarks.timing reading --studies 1000
    python -m benchmarks.timing ray-reading --trials 100 --reports 20
    python -m benchmarks.timing ray-throughput --past 100 --trials 40
    python -m benchmarks.timing optimizer time --millions 10

Everything is measured on one thread. What other work on the machine adds is in the figures;
compare those of one run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from benchmarks.processes import limit_threads

# What is measured, and by which module.
COMMANDS = {
    "latency": ("latency", "one suggestion of MetaSampler, GPSampler and TPE, in turns"),
    "methods": ("methods", "each method of the benchmarks in long studies, with peak memory"),
    "scaling": ("scaling", "MetaSampler with ever more past tasks, with peak memory"),
    "reading": ("reading", "reading past studies from an archive and an Optuna database"),
    "ray-reading": ("ray_reading", "reading a Ray Tune experiment"),
    "ray-throughput": ("ray_throughput", "trials a second in Ray Tune, beside random search"),
    "optimizer": ("optimizer", "the learned optimizer: time, memory, and where it might break"),
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; only the chosen measurement's module is imported (some need Ray)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.timing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"Time {about}.")
        if name in arguments[:1]:
            measurement = import_module(f"benchmarks.timing.{module}")
            measurement.add_arguments(command)
            command.set_defaults(run=measurement.run)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    limit_threads()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
