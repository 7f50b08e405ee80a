"""How long 1,000 past studies take to read, from an archive and from an Optuna database.

    python -m benchmarks.reading --studies 1000

Each has 100 trials of 7 hyperparameters. Reading happens in a fresh process, whose peak memory
is printed too (on Linux). The database has Optuna's own schema; its rows are inserted in bulk,
since adding 100,000 trials through Optuna takes most of an hour.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages._rdb import models
from sqlalchemy import create_engine, insert

from metahpo.archive import Archive
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial

TRIALS = 100
SPACE = Space({f"x{i}": FloatDistribution(1e-5, 1.0, log=True) for i in range(7)})
READERS = {
    "archive": ("from metahpo.archive import Archive", "Archive(sys.argv[1]).tasks()"),
    "database": ("from optuna_meta.storage import read_tasks", "read_tasks(sys.argv[1])"),
}


def write_archive(path: Path, studies: int) -> None:
    """An archive of random tasks."""
    rng = np.random.default_rng(0)
    archive = Archive(str(path))
    for index in range(studies):
        configurations = SPACE.decode(rng.random((TRIALS, len(SPACE))))
        trials = tuple(Trial(c, float(rng.random())) for c in configurations)
        archive.add(Task(f"task {index}", SPACE, trials))


def write_database(url: str, studies: int) -> None:
    """An Optuna database of random studies."""
    optuna.storages.RDBStorage(url)  # makes the tables
    rng = np.random.default_rng(0)
    numbers = range(studies * TRIALS)
    begin = datetime(2026, 1, 1)
    studies_of = [(i // TRIALS + 1, i % TRIALS) for i in numbers]
    texts = {name: distribution_to_json(d) for name, d in SPACE.distributions.items()}
    configurations = SPACE.decode(rng.random((len(numbers), len(SPACE))))
    rows = {
        models.StudyModel: [
            {"study_id": i + 1, "study_name": f"study {i}"} for i in range(studies)
        ],
        models.StudyDirectionModel: [
            {"direction": "MINIMIZE", "study_id": i + 1, "objective": 0} for i in range(studies)
        ],
        models.TrialModel: [
            {
                "trial_id": i + 1,
                "number": number,
                "study_id": study,
                "state": "COMPLETE",
                "datetime_start": begin + timedelta(seconds=i),
                "datetime_complete": begin + timedelta(seconds=i + 1),
            }
            for i, (study, number) in zip(numbers, studies_of, strict=True)
        ],
        models.TrialParamModel: [
            {
                "trial_id": i + 1,
                "param_name": name,
                "param_value": value,
                "distribution_json": texts[name],
            }
            for i, configuration in zip(numbers, configurations, strict=True)
            for name, value in configuration.items()
        ],
        models.TrialValueModel: [
            {"trial_id": i + 1, "objective": 0, "value": float(v), "value_type": "FINITE"}
            for i, v in zip(numbers, rng.random(len(numbers)), strict=True)
        ],
    }
    with create_engine(url).begin() as connection:
        for model, values in rows.items():
            connection.execute(insert(model), values)


def read(kind: str, source: str) -> str:
    """What a fresh process prints that reads the source."""
    imports, reading = READERS[kind]
    program = (
        "import re, sys, time\n"
        "from pathlib import Path\n"
        f"{imports}\n"
        "begin = time.perf_counter()\n"
        f"tasks = {reading}\n"
        "seconds = time.perf_counter() - begin\n"
        # getrusage would count what the parent held when it forked.
        "status = Path('/proc/self/status').read_text()\n"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024\n"
        "print(f'{len(tasks)} tasks, {seconds:.2f} s, peak memory {peak:.0f} MB')\n"
    )
    command = [sys.executable, "-c", program, source]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sources = {
            "archive": str(Path(folder) / "archive"),
            "database": f"sqlite:///{folder}/studies.db",
        }
        write_archive(Path(sources["archive"]), options.studies)
        write_database(sources["database"], options.studies)
        for kind, source in sources.items():
            for _ in range(options.repeats):
                print(f"{kind}: {read(kind, source)}")


if __name__ == "__main__":
    main()
