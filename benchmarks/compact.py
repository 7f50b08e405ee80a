"""Keep of result files what the reports read, for committing them.

    python -m benchmarks.compact peers.jsonl meta.jsonl --out benchmarks/results/regret.jsonl
    python -m benchmarks.compact o.jsonl --out benchmarks/results/optimizers.jsonl

The reports print the same from a compact file. It has a line of ``circumstances`` wherever they
change, which holds for the lines below it. A study keeps the regrets at its improvements and the
mean of its times; a training at a learning rate that is not the best of its grid keeps its final
loss in place of its curves.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import expand_regrets, read_records

CIRCUMSTANCES = ("versions", "revision", "cores")
DROPPED = ("values", "bounds", "past_tasks", "date", "weights", "parameters")

Record = dict[str, Any]


def compact(records: Sequence[Record]) -> Iterator[Record]:
    """The lines of a compact file."""
    curves = _chosen_trainings(records)

    def circumstances(record: Record) -> Record:
        return {name: record[name] for name in CIRCUMSTANCES if name in record}

    for shared, group in groupby(records, circumstances):
        yield {"circumstances": shared}
        for record in group:
            if "regrets" in record:
                yield compact_study(record)
            else:
                yield compact_training(record, id(record) in curves)


def compact_study(record: Record) -> Record:
    """A record of ``benchmarks.run``.

    Raises:
        ValueError: If the best value of its problem is not known: its regrets depend on all runs.
    """
    if not record["bounds"]["exact"]:
        raise ValueError(f"{record['family']}/{record['task']} has no exact best value")
    kept = _kept(record)
    kept["milliseconds"] = round(float(np.mean(record["milliseconds"])), 2)
    regrets = np.array(record["regrets"])
    improved = np.flatnonzero(np.diff(regrets, prepend=np.inf))
    kept["regrets"] = [[int(i) + 1, float(regrets[i])] for i in improved]
    assert expand_regrets(kept["regrets"], record["trials"]) == record["regrets"]
    return kept


def compact_training(record: Record, with_curves: bool) -> Record:
    """A record of ``benchmarks.optimizers``."""
    from benchmarks.optimizers import final_loss

    kept = _kept(record)
    if not with_curves:
        del kept["losses"], kept["held_out"]
        kept["final_loss"] = final_loss(record)
    return kept


def _kept(record: Record) -> Record:
    return {k: v for k, v in record.items() if k not in (*CIRCUMSTANCES, *DROPPED)}


def _chosen_trainings(records: Sequence[Record]) -> set[int]:
    """Identities of the trainings whose curves a report reads."""
    from benchmarks.optimizers_report import arranged

    trainings = [record for record in records if "losses" in record]
    return {
        id(chosen)
        for steps in {record["steps"] for record in trainings}
        for seeds in arranged(trainings, steps).values()
        for runs in seeds.values()
        for chosen in runs.values()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the compact file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compact", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    records = [record for path in options.files for record in read_records(path)]
    lines = [json.dumps(line, separators=(",", ":")) for line in compact(records)]
    options.out.write_text("\n".join(lines) + "\n")
    print(f"{len(records)} records, {options.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
