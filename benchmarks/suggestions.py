"""Record what seeded studies are suggested, and compare two recordings.

Shows whether a change to the code changed any suggestion:

    git stash; python -m benchmarks.suggestions --out out/before.jsonl; git stash pop
    python -m benchmarks.suggestions --out out/after.jsonl --against out/before.jsonl

62 studies over all benchmark families: with good, small, misleading and foreign histories and
without any, with either surrogate, one trial at a time and in batches, in Optuna and in Ray Tune.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from tqdm import tqdm

from benchmarks.histories import history
from benchmarks.problems import DATA, LIVE, TABLES, YAHPO, Problem, load_problem, split
from metahpo import Task

TRIALS = 14
# Numbers that differ by less, relative to themselves, count as the same.
ROUNDING = 1e-6
# (history, surrogate, trials at a time) of the studies of each family whose trials cost nothing.
VARIANTS = (
    ("good", "neural", 1),
    ("none", "neural", 1),
    ("good", "gp", 1),
    ("none", "gp", 1),
    ("negated", "neural", 1),
    ("other-space", "neural", 1),
    ("small", "neural", 3),
    ("other-family", "gp", 1),
)
RAY_FAMILIES = ("lcbench", "xgboost", "rpart")


class Case(NamedTuple):
    """One seeded study."""

    family: str
    history: str
    surrogate: str
    batch: int
    host: str = "optuna"
    trials: int = TRIALS

    @property
    def name(self) -> str:
        """Names it in a recording."""
        return f"{self.family}/{self.history}/{self.surrogate}/{self.batch}/{self.host}"


def cases() -> list[Case]:
    """All studies that are recorded."""
    cheap = [Case(family, *rest) for family in (*YAHPO, *TABLES) for rest in VARIANTS]
    in_ray = [Case(family, "small", "neural", 3, "ray") for family in RAY_FAMILIES]
    live = [Case(family, "none", "neural", 1, trials=6) for family in LIVE]
    return [*cheap, *in_ray, *live, Case("mlp", "small", "neural", 1, trials=6)]


def record(case: Case, data: Path) -> dict[str, Any]:
    """The configurations suggested in one study, and the decisions behind them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = split(case.family, data).validation[0]
    problem = load_problem(case.family, task, data)
    past = history(case.history, case.family, task, data)
    rows = _in_ray(case, problem, past) if case.host == "ray" else _in_optuna(case, problem, past)
    return {"case": case.name, "trials": list(rows)}


def _in_optuna(case: Case, problem: Problem, past: list[Task]) -> Iterator[dict[str, Any]]:
    from optuna_meta import MetaSampler

    sampler = MetaSampler(history=past, surrogate=case.surrogate, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    while len(study.trials) < case.trials:
        asked = [study.ask() for _ in range(case.batch)]
        values = [problem.objective(trial) for trial in asked]
        for trial, value in zip(asked, values, strict=True):
            study.tell(trial, value)
    for trial in study.trials:
        yield {
            "configuration": trial.params,
            "source": trial.system_attrs["metahpo:decision"]["source"],
        }


def _in_ray(case: Case, problem: Problem, past: list[Task]) -> Iterator[dict[str, Any]]:
    """The searcher asked and told as Ray would, without a cluster."""
    from benchmarks.ray_regret import param_space
    from raytune_meta import MetaSearch

    search = MetaSearch(param_space(problem), "value", "max", history=past, seed=0)
    search.set_max_concurrency(case.batch)
    for start in range(0, case.trials, case.batch):
        names = [f"t{start + number}" for number in range(case.batch)]
        asked = {name: search.suggest(name) for name in names}
        for name, configuration in asked.items():
            assert configuration is not None
            value = float(problem.evaluate([problem.active(configuration)])[0])
            search.on_trial_complete(name, {"value": value, "training_iteration": 1})
            yield {"configuration": configuration, "source": "ray"}


# ---- recordings ----------------------------------------------------------------------------


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """One line for each study whose suggestions differ: from which trial on, and by how much."""
    for name, old in before.items():
        new = after.get(name, [])
        pairs = enumerate(zip(old, new, strict=False))
        first = next(((i, a, b) for i, (a, b) in pairs if _changes(a, b)), None)
        if first is not None:
            index, a, b = first
            yield f"{name}: trial {index} ({a['source']} -> {b['source']}): {_changes(a, b)}"
        elif len(old) != len(new):
            yield f"{name}: {len(old)} trials before, {len(new)} after"


def _changes(one: dict[str, Any], other: dict[str, Any]) -> str:
    old, new = one["configuration"], other["configuration"]
    names = dict.fromkeys((*old, *new))
    return ", ".join(
        f"{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in names
        if not _same(old.get(name), new.get(name))
    )


def _same(one: Any, other: Any) -> bool:
    """Equal, but for the rounding of sums that are added up in another order."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ROUNDING)
    return one == other


def read(path: Path) -> dict[str, Any]:
    """Trials by study."""
    rows = map(json.loads, path.read_text().splitlines())
    return {row["case"]: row["trials"] for row in rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the recording to write")
    parser.add_argument("--against", type=Path, help="a recording to compare with")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", default="", help="studies whose name holds this text")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = [case for case in cases() if options.only in case.name]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs) as pool, options.out.open("w") as file:
        for row in tqdm(pool.map(record, chosen, [options.data] * len(chosen)), total=len(chosen)):
            print(json.dumps(row), file=file, flush=True)
    if options.against:
        before, after = read(options.against), read(options.out)
        lines = list(differences({n: before[n] for n in before if n in after}, after))
        print("\n".join(lines))
        print(f"{len(after) - len(lines)} of {len(after)} studies were suggested the same")


if __name__ == "__main__":
    main()
