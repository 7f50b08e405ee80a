"""HEBO (Cowen-Rivers et al. 2022), run by the Python of an environment of its own.

It has no conditions: it draws every hyperparameter, and inactive ones are dropped before the
evaluation. ``METAHPO_HEBO_PYTHON`` names the Python; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.peers.base import NotInstalledError
from benchmarks.peers.portfolio import all_active
from benchmarks.peers.translate import foreign_configuration, own_configuration
from benchmarks.problems import Problem
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task

VARIABLE = "METAHPO_HEBO_PYTHON"
DEFAULT = Path(__file__).parents[2] / ".venv-hebo" / "bin" / "python"
WORKER = Path(__file__).parent / "hebo_worker.py"


def python() -> Path:
    """The Python that has HEBO."""
    return Path(os.environ.get(VARIABLE, DEFAULT))


def available() -> None:
    """Raise ``NotInstalledError`` if there is no such Python, or it has no HEBO."""
    if installed_version() is None:
        raise NotInstalledError(
            f"HEBO is not installed for {python()}: make it an environment of its own as "
            f"benchmarks/README.md says, and name its Python in {VARIABLE}"
        )


@cache
def installed_version() -> str | None:
    """HEBO's version in its own environment; None if it is not installed."""
    if not python().exists():
        return None
    program = "from importlib.metadata import version; print(version('HEBO'))"
    command = [str(python()), "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


class HEBOPeer:
    """A study of HEBO's, in a process of its own."""

    def __init__(self, problem: Problem, history: Sequence[Task], seed: int, trials: int) -> None:
        self._problem = problem
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._worker = subprocess.Popen(
            [str(python()), "-I", str(WORKER)],  # isolated from this project's paths
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._asked: Configuration | None = None
        self._exchange({"space": design_space(problem.space), "seed": seed})

    def ask(self) -> dict[str, Any]:
        """Return what HEBO suggests."""
        self._asked = self._exchange({"ask": True})["configuration"]
        return own_configuration(self._asked, self._problem)

    def tell(self, configuration: Configuration, value: float) -> None:
        """Pass HEBO the negated value of what it suggested, inactive hyperparameters included."""
        suggested = self._asked
        if suggested is None:
            space = self._problem.space
            (full,) = space.decode(all_active([configuration], space))
            suggested = foreign_configuration(full, space)
        self._exchange({"tell": {"configuration": suggested, "cost": -value}})
        self._asked = None

    def close(self) -> None:
        """End the process."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.close()
        self._worker.wait()
        self._worker.stdout.close()
        self._errors.close()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(json.dumps(message) + "\n")
        self._worker.stdin.flush()
        answer = self._worker.stdout.readline()
        if not answer:
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            self.close()
            raise RuntimeError(f"HEBO's process ended: {last}")
        return json.loads(answer)


def design_space(space: Space) -> list[dict[str, Any]]:
    """The space in HEBO's types; choices by their text, conditions left out."""
    return [{"name": name} | _entry(name, d) for name, d in space.distributions.items()]


def _entry(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return {"type": "cat", "categories": [str(choice) for choice in choices]}
        case IntDistribution(low=low, high=high, log=log):
            return {"type": "pow_int" if log else "int", "lb": low, "ub": high} | _base(log)
        case FloatDistribution(low=low, high=high, log=log):
            return {"type": "pow" if log else "num", "lb": low, "ub": high} | _base(log)
        case _:
            raise TypeError(f"hyperparameter {name!r}: unknown distribution {distribution!r}")


def _base(log: bool) -> dict[str, Any]:
    return {"base": 10} if log else {}
