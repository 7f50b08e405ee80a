"""Every order in which concurrent processes may take their steps, one after the other.

An actor is a function that calls ``turn()`` before each step that others can see. All actors run
in threads, of which one at a time takes a step, in the order that a schedule says: a schedule
chooses, again and again, among the actors that are not done. Nothing here depends on timing.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Actor = Callable[[Callable[[], None]], None]


class Killed(BaseException):
    """Ends an actor where it stands, and whatever it tries afterwards."""


class _Running:
    def __init__(self, actor: Actor, killed_at: int | None) -> None:
        self._steps = 0
        self._killed_at = killed_at
        self._one_at_a_time = threading.Lock()
        self._granted = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self.is_done = False
        self.error: BaseException | None = None
        threading.Thread(target=self._run, args=(actor,), daemon=True).start()
        self._stopped.acquire()

    def step(self) -> None:
        """Let the actor go on until its next step or its end."""
        self._granted.release()
        self._stopped.acquire()

    def _turn(self) -> None:
        with self._one_at_a_time:
            if self._steps == self._killed_at:
                raise Killed
            self._stopped.release()
            self._granted.acquire()
            self._steps += 1

    def _run(self, actor: Actor) -> None:
        try:
            actor(self._turn)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_done = True
        self._stopped.release()


def run(
    actors: Sequence[Actor],
    choose: Callable[[int], int],
    after_step: Callable[[], None] = lambda: None,
    killed_at: Sequence[int | None] | None = None,
) -> None:
    """Run actors to their end.

    Args:
        actors: What runs.
        choose: Which of the given number of actors that are not done takes the next step.
        after_step: Called while all of them stand still.
        killed_at: For each actor, after how many steps it is killed.
    """
    deaths = killed_at or [None] * len(actors)
    running = [_Running(actor, death) for actor, death in zip(actors, deaths, strict=True)]
    while going := [actor for actor in running if not actor.is_done]:
        going[choose(len(going))].step()
        after_step()
    for actor in running:
        if actor.error is not None:
            raise actor.error


def all_schedules() -> Iterator[Callable[[int], int]]:
    """Yield schedules until every order has been taken; the caller runs each of them."""
    prefix: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []

        def choose(count: int, prefix: list[int] = prefix, taken: list = taken) -> int:
            choice = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((choice, count))
            return choice

        yield choose
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]


def random_schedules(count: int, seed: int) -> Iterator[Callable[[int], int]]:
    """Yield as many random schedules."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield lambda going: int(rng.integers(going))
