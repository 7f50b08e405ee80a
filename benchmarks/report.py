"""Tables and plots from the results of ``benchmarks.run``.

python -m benchmarks.report runs.jsonl more.jsonl --markdown report.md --plot curves.png
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import (
    NO_HISTORY,
    OURS,
    POOLED,
    TIE,
    Group,
    Record,
    against,
    against_best_peer,
    group,
    interval,
    is_ours,
    label,
    share_worse,
    trials_to_reach,
)
from benchmarks.peers import ABLATIONS
from benchmarks.problems import SPLITS
from benchmarks.records import read_records
from metahpo.tasks.space import Array

POINTS = (1, 3, 5, 10, 20, 30, 50)
BRIEF = (1, 3, 5, 10, 20, 50)
WORSE_AT = (10, 20, 30, 50)
BARS_AT = (3, 10, 50)
# Differences that are visible with four digits.
VISIBLE = 5e-5


# ---- the whole -----------------------------------------------------------------------------


def markdown(groups: Mapping[str, Group], records: Sequence[Record]) -> str:
    """The whole report."""
    summary = _summary(groups)
    sections = [_section(name, compared) for name, compared in groups.items()]
    return "\n".join([*summary, *sections, _behind(groups), _origin(records)])


def _summary(groups: Mapping[str, Group]) -> list[str]:
    """One line a family: ours beside the best peer, and without or with other history."""
    methods = list(dict.fromkeys(m for compared in groups.values() for m in compared.methods))
    other = [method for method in methods if method.startswith(f"{OURS} (")]
    pairs = [(OURS, None), (NO_HISTORY, "gp"), *((method, NO_HISTORY) for method in other)]
    return [part for ours, theirs in pairs for part in _against(groups, ours, theirs)]


def _against(groups: Mapping[str, Group], ours: str, theirs: str | None) -> list[str]:
    """A table of one method's regret beside another's, or beside the best peer's."""
    rows = []
    for name, compared in groups.items():
        peers = [m for m in compared.methods if not is_ours(m)] if theirs is None else [theirs]
        if ours not in compared.methods or not peers or peers[0] not in compared.methods:
            continue
        found = against(compared.only([ours, *peers]), ours, peers, _within(POINTS, compared))
        cells = [f"{v.ours:.3f} / {v.theirs:.3f} = **{v.ratio:.2f}**" for v in found]
        rows.append([name, *cells, *[""] * (len(POINTS) - len(cells))])
    if not rows:
        return []
    title = f"## `{ours}` beside {'the best peer' if theirs is None else f'`{theirs}`'}"
    about = "Mean normalised regret of the one / of the other = ratio, below 1 where the first is"
    head = ["family", *map(str, POINTS)]
    return [title, "", f"{about} better.", "", *_table(head, rows), ""]


def _section(name: str, compared: Group) -> str:
    points = _within(POINTS, compared)
    tasks = len(set(compared.tasks))
    lines = [
        f"## {name}",
        "",
        f"{tasks} tasks, {len(compared.tasks)} runs a method. Mean normalised regret "
        "[95% interval over tasks] after so many trials; the best is bold.",
        "",
        *_table(["method", *map(str, points)], _mean_rows(compared, compared.by_task, points, 4)),
        "",
        "Average rank [95% interval over tasks]:",
        "",
        *_table(["method", *map(str, points)], _mean_rows(compared, compared.ranks, points, 2)),
        "",
        *_side_figures(compared),
    ]
    if OURS in compared.methods and not all(map(is_ours, compared.methods)):
        lines += [
            f"`{OURS}` against the best peer at each point (regret ratio; below 1 is better):",
            "",
            *_table(["", *map(str, points)], _ratio_rows(compared, points)),
            "",
        ]
    return "\n".join(lines)


def _within(points: Sequence[int], compared: Group) -> list[int]:
    return [point for point in points if point <= compared.regrets.shape[2]]


def brief(compared: Group) -> str:
    """One table: regret after so many trials, rank at the end, processor time of a run."""
    points = _within(BRIEF, compared)
    last = points[-1]
    regrets = compared.by_task.mean(axis=1)[:, np.array(points) - 1]
    ranks = compared.ranks.mean(axis=1)[:, last - 1]
    best, first = regrets.min(axis=0), ranks.min()
    rows = [
        [
            method,
            *(_bold(f"{r:.3f}", r <= b + TIE) for r, b in zip(regrets[i], best, strict=True)),
            _bold(f"{ranks[i]:.1f}", ranks[i] <= first),
            f"{compared.cpu_seconds[i]:.1f}",
        ]
        for i, method in enumerate(compared.methods)
    ]
    head = ["method", *map(str, points), f"rank at {last}", "CPU s a run"]
    return "\n".join(_table(head, rows))


# ---- tables --------------------------------------------------------------------------------


def _mean_rows(
    compared: Group, by_task: Array, points: Sequence[int], digits: int
) -> list[list[str]]:
    at = np.array(points) - 1
    means = by_task.mean(axis=1)[:, at]
    low, high = (ends[:, at] for ends in interval(by_task))
    best = np.isclose(means, means.min(axis=0))
    ends = max(digits - 1, 1)
    return [
        [
            method,
            *(
                f"{_bold(f'{means[i, j]:.{digits}f}', best[i, j])} "
                f"[{low[i, j]:.{ends}f}, {high[i, j]:.{ends}f}]"
                for j in range(len(points))
            ),
        ]
        for i, method in enumerate(compared.methods)
    ]


def _side_figures(compared: Group) -> list[str]:
    """Cost of a method, trials to reach TPE, share of runs worse than GPSampler's."""
    head, columns = ["method"], [list(compared.methods)]
    trials = compared.regrets.shape[2]
    notes = []
    if "tpe" in compared.methods:
        head += ["trials to reach TPE", "runs that do"]
        reached = trials_to_reach(compared)
        columns.append([f"{m:.0f}" if math.isfinite(m) else f"> {trials}" for m, _ in reached])
        columns.append([f"{share:.0%}" for _, share in reached])
        notes.append(
            f"`trials to reach TPE`: median number of trials to TPE's regret after {trials}."
        )
    if "gp" in compared.methods and (points := _within(WORSE_AT, compared)):
        head += [f"worse than gp at {point}" for point in points]
        worse = share_worse(compared, points)
        columns += [[f"{share:.0%}" for share in worse[:, j]] for j in range(len(points))]
        notes.append("`worse than gp`: share of runs with a larger regret than GPSampler's run.")
    head += ["ms a trial", "s a run", "CPU s a run", "peak MB"]
    columns.append([f"{ms:.1f}" for ms in compared.milliseconds])
    columns.append([f"{seconds:.1f}" for seconds in compared.seconds])
    columns.append([f"{cpu:.1f}" if math.isfinite(cpu) else "" for cpu in compared.cpu_seconds])
    columns.append([f"{mb:.0f}" if math.isfinite(mb) else "" for mb in compared.megabytes])
    notes.append(
        "Seconds leave out evaluations, CPU seconds do not; memory is a worker process's."
    )
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [" ".join(notes), "", *_table(head, rows), ""]


def _ratio_rows(compared: Group, points: Sequence[int]) -> list[list[str]]:
    found = against_best_peer(compared, points)
    return [
        ["best peer", *(versus.peer for versus in found)],
        ["ratio", *(f"{v.ratio:.2f} [{v.low:.2f}, {v.high:.2f}]" for v in found)],
    ]


def _behind(groups: Mapping[str, Group]) -> str:
    """Every point at which a peer has the smaller mean regret."""
    rows = [
        [
            name,
            str(versus.trials),
            versus.peer,
            f"{versus.ours:.4f}",
            f"{versus.theirs:.4f}",
            f"{versus.ours - versus.theirs:.4f}",
            f"{versus.ratio:.2f} [{versus.low:.2f}, {versus.high:.2f}]",
            f"{versus.tasks_behind:.0%}",
        ]
        for name, compared in groups.items()
        if OURS in compared.methods and not all(map(is_ours, compared.methods))
        for versus in against_best_peer(compared, _within(POINTS, compared))
        if versus.ours - versus.theirs > VISIBLE
    ]
    head = ["family", "trials", "best peer", OURS, "peer", "behind by", "ratio [95%]", "on tasks"]
    text = "\n".join(_table(head, rows)) if rows else "Nowhere in these results."
    return f"## Where {OURS} is behind\n\n{text}\n"


def _origin(records: Sequence[Record]) -> str:
    """The revisions, machines and package versions of the runs."""
    revisions: dict[str, dict[str, None]] = {}
    for record in records:
        revisions.setdefault(record.get("revision", "unknown"), {})[label(record)] = None
    by_revision = [f"{revision} ({', '.join(m)})" for revision, m in revisions.items()]
    cores = sorted({r["cores"] for r in records if r.get("cores")})
    versions: dict[str, set[str]] = {}
    for record in records:
        for package, found in record.get("versions", {}).items():
            if found != "not installed":
                versions.setdefault(package, set()).add(found)
    shown = ", ".join(f"{package} {'/'.join(sorted(v))}" for package, v in versions.items())
    return "\n".join(
        [
            "## The runs",
            "",
            f"{len(records)} runs; by revision: {'; '.join(by_revision)}; "
            f"machines with {', '.join(map(str, cores)) or 'unknown'} cores; {shown}.",
            "",
        ]
    )


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


# ---- command line --------------------------------------------------------------------------


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description="Tables and plots from result files."
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", help="only these labels")
    parser.add_argument("--families", nargs="+", help="only these families")
    parser.add_argument("--split", choices=SPLITS, help="only this split")
    parser.add_argument("--brief", action="store_true", help="print one table in place of all")
    parser.add_argument("--markdown", type=Path, help="write the tables here, too")
    parser.add_argument("--plot", type=Path, help="draw the mean regret here")
    parser.add_argument("--ablations", type=Path, help="draw the ablations here")
    return parser.parse_args(arguments)


def _chosen(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        record
        for path in arguments.files
        for record in read_records(path)
        if arguments.split in (None, record["split"])
        and (not arguments.methods or label(record) in arguments.methods)
        and (not arguments.families or record["family"] in arguments.families)
    ]


def _whole(groups: Mapping[str, Group]) -> Group:
    """The pooled group, or the first one if there is none."""
    return groups.get(POOLED, next(iter(groups.values())))


def main(argv: list[str] | None = None) -> int:
    """Print the report."""
    # Imported here: Matplotlib takes a second, and only plots need it.
    from benchmarks import plots

    arguments = parse(argv)
    if missing := [str(path) for path in arguments.files if not path.exists()]:
        print(f"no such file: {', '.join(missing)}", file=sys.stderr)
        return 2
    records = _chosen(arguments)
    peers = [record for record in records if record["method"] not in ABLATIONS]
    groups = group(peers)
    if not groups:
        print("no (task, seed) pair was completed by all methods yet", file=sys.stderr)
        return 1
    text = brief(_whole(groups)) if arguments.brief else markdown(groups, peers)
    parts = group([r for r in records if label(r) == OURS or r["method"] in ABLATIONS])
    parts = {name: compared for name, compared in parts.items() if len(compared.methods) > 1}
    if parts and not arguments.brief:
        text += "\n# Ablations\n\n" + "\n".join(
            _section(name, compared) for name, compared in parts.items()
        )
    print(text)
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text)
    if arguments.plot:
        plots.regret_curves(_whole(groups), arguments.plot)
    if arguments.ablations and parts:
        compared = _whole(parts)
        points = _within(BARS_AT, compared) or [compared.regrets.shape[2]]
        plots.ablation_bars(compared, points, arguments.ablations)
    return 0


if __name__ == "__main__":
    sys.exit(main())
