"""The past tasks of a sweep: what the user named, without the sweep itself.

What can be named is up to ``metahpo.archive.sources``. Here is what only Ray needs: the metric and
mode of experiments, and leaving the sweep's own folder out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from metahpo.archive import ReadOptions
from metahpo.archive.sources import checked_sources, read_history, without_copies
from metahpo.suggest.plugin import kept_history
from metahpo.tasks.task import Task, Trial
from raytune_meta.experiment import NoTrialsYetError

if TYPE_CHECKING:
    from metahpo.suggest.history import History


class SweepHistory:
    """Past tasks, read when a sweep first needs them and then remembered.

    Pickling leaves out what was read.

    Args:
        history: What ``MetaSearch(history=...)`` accepts; None for none.

    Raises:
        TypeError: For an object that no reader accepts.
        ValueError: For an empty string.
    """

    def __init__(self, history: object = None) -> None:
        self._sources = () if history is None else checked_sources(history)
        self._tasks: History | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_sources": self._sources, "_tasks": None}

    def tasks(
        self,
        sweep: Task,
        metric: str,
        mode: Literal["max", "min"],
        constraints: Sequence[str] = (),
    ) -> History:
        """Return the past tasks: never the sweep itself, and no task twice.

        Args:
            sweep: The sweep so far.
            metric: The metric that Ray's experiments tuned.
            mode: Whether it was maximised or minimised.
            constraints: Names of the constraints in Ray's experiments.

        Raises:
            SourceError: For a source that cannot be read or holds no task. A folder in which an
                experiment has just begun may be empty: it is where the sweep writes.
        """
        if self._tasks is None:
            options = ReadOptions(metric, mode, tuple(constraints))
            read = (task for source in self._sources for task in _read(source, options))
            tasks = without_copies(read, of=sweep)
            self._tasks = kept_history(t for t in tasks if not _is_part_of(t, sweep))
        return self._tasks


def _read(source: object, options: ReadOptions) -> list[Task]:
    try:
        return read_history(source, options)
    except NoTrialsYetError:
        # The first sweep in a shared folder finds nothing there but itself.
        return []


def _is_part_of(past: Task, sweep: Task) -> bool:
    """Whether a past task is the sweep itself, which is being resumed.

    All trials in the folder of its experiment are its own.
    """
    names = [name for name in sweep.space if name in past.space]

    def key(trial: Trial) -> str:
        # As a string: choices may be lists.
        return repr([trial.configuration.get(name) for name in names])

    tried = {key(trial) for trial in sweep.trials}
    return bool(names) and bool(past.trials) and all(key(t) in tried for t in past.trials)
