"""Checks of a state dictionary before LearnedOptimizer loads it.

Without them a state of another optimizer would fail in the first step, or spoil the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from metahpo.optim.checks import check_group
from metahpo.optim.group_state import INITIAL
from metahpo.optim.tensors import real_view

# Keys of a parameter's state, in the order of ``Moments``.
MOMENTS = ("momentum", "second_moment", "slow_momentum")
# What every group holds besides its parameters.
OPTIONS = (*INITIAL, "num_steps", "weight_decay", "guard", "foreach")
# A group's state in plain numbers, and how many.
NUMBERS = {key: len(INITIAL[key]) for key in ("losses", "guard_state")}
REMEDY = "it was saved by another optimizer, or by another version of this one"


def check_state_dict(
    state_dict: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], moments: Sequence[str]
) -> None:
    """Check that a state fits an optimizer.

    Args:
        state_dict: As ``LearnedOptimizer.state_dict`` returns it.
        groups: The optimizer's parameter groups.
        moments: Names of the moments that its weights need.

    Raises:
        ValueError: It does not; the message says where.
    """
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError(f"state_dict must have 'state' and 'param_groups'; {REMEDY}")
    saved = state_dict["param_groups"]
    if not isinstance(saved, list | tuple) or not isinstance(state_dict["state"], Mapping):
        raise ValueError(
            f"state_dict must have a list of 'param_groups' and a dictionary 'state'; {REMEDY}"
        )
    if len(saved) != len(groups):
        raise ValueError(
            f"state_dict has {len(saved)} parameter groups, this optimizer has {len(groups)}"
        )
    for number, (record, group) in enumerate(zip(saved, groups, strict=True)):
        _check_group(record, len(group["params"]), f"parameter group {number} of state_dict")
    _check_parameters(state_dict["state"], saved, groups, moments)


def _check_group(record: Mapping[str, Any], count: int, name: str) -> None:
    if not isinstance(record, Mapping) or not isinstance(record.get("params"), list | tuple):
        raise ValueError(f"{name} must be a dictionary with a list of 'params'; {REMEDY}")
    if not all(isinstance(number, int | str) for number in record["params"]):
        raise ValueError(f"{name} must number its parameters, got {record['params']!r}")
    if len(record["params"]) != count:
        raise ValueError(
            f"{name} has {len(record['params'])} parameters, that of this optimizer has {count}"
        )
    if missing := [option for option in OPTIONS if option not in record]:
        raise ValueError(f"{name} lacks {', '.join(missing)}; {REMEDY}")
    try:
        check_group(dict(record))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    _check_numbers(record, name)
    for key in ("step", "handover"):
        value = record[key]
        never = key == "handover" and value is None
        if not never and (not isinstance(value, Integral) or value < 0):
            raise ValueError(f"{name}: {key} must be a number of steps, got {value!r}")


def _check_numbers(record: Mapping[str, Any], name: str) -> None:
    for key, length in NUMBERS.items():
        values = record[key]
        if not isinstance(values, tuple | list) or len(values) != length:
            raise ValueError(f"{name}: {key} must be {length} numbers, got {values!r}; {REMEDY}")
        # The lowest loss so far is infinite before the first one.
        infinite_too = key == "guard_state"
        if not all(_is_number(value, infinite_too) for value in values):
            raise ValueError(f"{name}: {key} must be finite numbers, got {values!r}")


def _is_number(value: object, infinite_too: bool) -> bool:
    if not isinstance(value, Real):
        return False
    return not math.isnan(value) if infinite_too else math.isfinite(value)


def _check_parameters(
    states: Mapping[Any, Any],
    saved: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    moments: Sequence[str],
) -> None:
    numbers = [number for record in saved for number in record["params"]]
    if len(set(numbers)) < len(numbers):
        raise ValueError("state_dict has a parameter in its groups twice")
    parameters = [parameter for group in groups for parameter in group["params"]]
    of_number = dict(zip(numbers, parameters, strict=True))
    for number, state in states.items():
        if number not in of_number:
            raise ValueError(f"state_dict has a state of {number!r}, which is in no group")
        name = f"the state of parameter {number} in state_dict"
        # PyTorch keeps an empty one of parameters without a gradient.
        if not isinstance(state, Mapping) or state:
            _check_state(state, of_number[number], moments, name)


def _check_state(
    state: Mapping[str, Any], parameter: Tensor, moments: Sequence[str], name: str
) -> None:
    if not isinstance(state, Mapping) or not {"step", "momentum"} <= state.keys():
        raise ValueError(f"{name} has {_names(state)}, expected step and momentum; {REMEDY}")
    if unknown := [key for key in state if key not in ("step", *MOMENTS)]:
        raise ValueError(f"{name} has {', '.join(map(str, unknown))}, which is unknown; {REMEDY}")
    if missing := [moment for moment in moments if moment not in state]:
        raise ValueError(
            f"state_dict lacks {', '.join(missing)}, which these weights require; "
            "load it into an optimizer with the weights it was saved with"
        )
    step = state["step"]
    count: Any = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    if not isinstance(count, Real) or not 0 <= float(count) < math.inf:
        raise ValueError(f"{name}: step must be a number of steps, got {step!r}")
    shape = real_view(parameter).shape
    for moment in moments:
        tensor = state[moment]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise ValueError(f"{name}: {moment} must be a tensor of real numbers")
        if tensor.shape != shape:
            raise ValueError(
                f"{name}: {moment} has shape {tuple(tensor.shape)}, expected {tuple(shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: {moment} has values that are not finite")
        if moment == "second_moment" and (tensor < 0).any():
            raise ValueError(f"{name}: {moment} has negative values")


def _names(state: object) -> str:
    if not isinstance(state, Mapping):
        return repr(state)
    return ", ".join(sorted(map(str, state)))
