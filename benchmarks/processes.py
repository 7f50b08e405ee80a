"""Processes that measure: their threads, their processor time, their peak memory."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class FailedProcessError(Exception):
    """A measuring process failed or took too long; the message says why."""


# ---- one thread each -----------------------------------------------------------------------


def limit_threads() -> None:
    """Let the processes that this one starts use one thread each.

    Spawned processes read these variables before they load numerical libraries.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))


def in_fresh_process(
    measure: Callable[..., Any], *arguments: Any, seconds: float | None = None
) -> Any:
    """What a function returns in a process of its own, on one thread.

    Args:
        measure: A function of a module; only that module and what it imports are loaded.
        *arguments: What it is called with.
        seconds: How long it may take.

    Raises:
        FailedProcessError: If it raised an exception, died, or took too long.
    """
    limit_threads()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_outcome, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise FailedProcessError(f"took more than {seconds:g} s")
        outcome, error = receiver.recv()
    except EOFError:
        raise FailedProcessError("its process died") from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise FailedProcessError(error)
    return outcome


def _send_outcome(
    sender: Connection, measure: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        outcome = measure(*arguments), None
    except Exception as error:
        outcome = None, str(error) or repr(error)
    sender.send(outcome)


# ---- processor time and memory -------------------------------------------------------------


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def forget_peak_memory() -> None:
    """Begin anew with the peak; on Linux alone."""
    if _RESET.exists():
        _RESET.write_text("5")


def peak_megabytes() -> float | None:
    """Peak memory of this process since ``forget_peak_memory``; None except on Linux.

    Read from ``/proc``: ``getrusage`` would count what the parent held when it forked.
    """
    if not _STATUS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text())
    return int(found[1]) / 1024 if found else None
