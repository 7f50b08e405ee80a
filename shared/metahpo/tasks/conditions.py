"""Conditions between hyperparameters, read off the configurations that were tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optuna.distributions import CategoricalDistribution, FloatDistribution

from metahpo.tasks.choices import Match, choice_key
from metahpo.tasks.distributions import is_number
from metahpo.tasks.space import Condition, Configuration, Space


def infer_conditions(
    spaces: Iterable[Space], observed: Iterable[Sequence[Configuration]]
) -> dict[str, Condition]:
    """Conditions that explain which hyperparameters were absent from which configurations.

    A define-by-run host never states its conditions, but its trials show them. For each
    hyperparameter that some configurations lack, the first discrete hyperparameter whose value
    decides exactly (in every configuration seen) is taken as its parent.

    Args:
        spaces: The space of each task. A hyperparameter that is not in a task's space at all
            says nothing about conditions.
        observed: The configurations of each task, in the same order.

    Returns:
        Conditions by hyperparameter; nothing for those that no single parent explains.
    """
    tasks = list(zip(spaces, observed, strict=True))
    names = dict.fromkeys(name for space, _ in tasks for name in space)
    parents = _discrete(space for space, _ in tasks)
    conditions: dict[str, Condition] = {}
    for name in names:
        rows = [c for space, seen in tasks if name in space for c in seen]
        if all(name in c for c in rows):
            continue
        found = (
            _condition(name, parent, rows, categorical)
            for parent, categorical in parents.items()
            if parent != name
        )
        usable = (c for c in found if c is not None and not _cyclic(name, c, conditions))
        if condition := next(usable, None):
            conditions[name] = condition
    return conditions


def joined(
    preferred: Mapping[str, Condition], others: Mapping[str, Condition]
) -> dict[str, Condition]:
    """The preferred conditions, and others where none is, unless that would create a cycle."""
    conditions = dict(preferred)
    for name, condition in others.items():
        if name not in conditions and not _cyclic(name, condition, conditions):
            conditions[name] = condition
    return conditions


def _cyclic(name: str, condition: Condition, known: Mapping[str, Condition]) -> bool:
    parent: str | None = condition.parent
    while parent is not None:
        if parent == name:
            return True
        parent = known[parent].parent if parent in known else None
    return False


def _discrete(spaces: Iterable[Space]) -> dict[str, bool]:
    """The hyperparameters with levels, and whether each is categorical."""
    return {
        name: isinstance(distribution, CategoricalDistribution)
        for space in spaces
        for name, distribution in space.distributions.items()
        if not isinstance(distribution, FloatDistribution)
    }


def _condition(
    name: str, parent: str, rows: Sequence[Configuration], categorical: bool
) -> Condition | None:
    """The condition on ``parent`` that explains where ``name`` is present, if there is one."""
    if any(name in row and parent not in row for row in rows):
        return None
    decided = [(row[parent], name in row) for row in rows if parent in row]
    present = {choice_key(value, Match.VALUE): value for value, has in decided if has}
    absent = {choice_key(value, Match.VALUE): value for value, has in decided if not has}
    if not present or not absent or present.keys() & absent.keys():
        return None
    admitted, others = list(present.values()), list(absent.values())
    numbers = all(is_number(value) for value in (*admitted, *others))
    # NaN is neither smaller nor larger, and no bound.
    if numbers and all(value < least for least in [min(admitted)] for value in others):
        return Condition(parent, at_least=min(admitted))
    return Condition(parent, choices=tuple(sorted(admitted, key=repr))) if categorical else None
