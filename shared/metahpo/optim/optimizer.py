"""The learned optimizer as a ``torch.optim.Optimizer``: a shell around rule, schedule and guard.

``metahpo.optim.reference`` shows the same step without batches, guard and loss.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from metahpo.optim.checks import Defaults, check_group, check_parameters
from metahpo.optim.fixed import fixed_direction, fixed_mixtures, uses_slow_momentum
from metahpo.optim.group_state import INITIAL, clipped, cpu_number, group_step_sizes, update_guard
from metahpo.optim.groups import parameter_groups
from metahpo.optim.rule import Moments, accumulate_, direction, kind_of, layer_scale
from metahpo.optim.state_checks import MOMENTS, check_state_dict
from metahpo.optim.tensors import (
    as_batch,
    matrix_shape,
    real_view,
    split_batch,
    state_dtype,
)
from metahpo.optim.weights import check_weights, shipped_weights

# AdamW's default, for steps after the hand-over.
ADAMW_EPSILON = 1e-8

Function = TypeVar("Function", bound=Callable[..., Any])


def _eager(function: Function) -> Function:
    """Exclude a function from torch.compile, which would execute its counters twice."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]


class LearnedOptimizer(Optimizer):
    """An optimizer with a learned schedule: no learning rate to choose.

    Each parameter moves by ``lr`` x (relative step size at this fraction of ``num_steps``) x
    (scale of its layer) x (direction); see ``metahpo.optim.rule`` and ``metahpo.optim.schedule``.
    The state is two tensors per parameter, in single precision or better; three with weights that
    use the slow momentum. Sharded parameters are not supported, because orthogonalising a matrix
    needs the whole of it.

    Each parameter group counts its own steps and may have its own ``num_steps``, ``weight_decay``
    and ``lr``. ``lr`` scales the step, for learning-rate schedulers; its default is 1. A group
    with ``embedding=True`` holds tables whose rows are looked up or added to activations, instead
    of matrices that map one activation to another. ``state_dict`` does not contain the weights:
    to resume a training, construct the optimizer with the same ones.

    Args:
        params: The module to train, from which embeddings are recognised
            (``metahpo.optim.parameter_groups``); or parameters, or dictionaries of groups.
        num_steps: Number of steps of the whole training; afterwards the step size keeps its last,
            small value.
        weight_decay: Decoupled: each step subtracts this fraction of each parameter, times the
            relative step size (a few hundredths at the peak of a training of 1,000 steps).
        guard: Whether to skip steps whose gradients are not finite or outliers, and to hand over
            to AdamW if the training blows up (``metahpo.optim.guard``), which shows sooner if
            ``step`` gets a closure. All guarded groups skip and hand over together. Costs five
            synchronisations with the device per step, and one pass over gradients and momenta.
        foreach: Whether to update tensors of equal shape together; None means True.
        weights: Weights instead of the shipped ones, from ``metahpo.optim.load_weights``.

    Raises:
        ValueError: An argument is out of range.
        TypeError: ``num_steps`` is not an int.
        WeightsError: The weights do not fit this version.
    """

    def __init__(
        self,
        params: ParamsT | nn.Module,
        num_steps: int,
        weight_decay: float = 0.0,
        *,
        guard: bool = True,
        foreach: bool | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        if weights is not None:
            check_weights(dict(weights))
        chosen = shipped_weights() if weights is None else weights
        self._weights = {name: tensor.detach().clone() for name, tensor in chosen.items()}
        self._prepare()
        options = {
            "num_steps": num_steps,
            "weight_decay": weight_decay,
            "guard": guard,
            "foreach": foreach,
        }
        groups = parameter_groups(params) if isinstance(params, nn.Module) else params
        super().__init__(groups, Defaults({**INITIAL, **options}))

    def _prepare(self) -> None:
        """Derive from the weights what a step needs."""
        self._cast_weights: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}
        self._mixtures = fixed_mixtures(self._weights)
        slow = self._mixtures is None or uses_slow_momentum(self._mixtures)
        self._moments = MOMENTS if slow else MOMENTS[:2]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which starts at step 0; handed over to AdamW if the others were."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_group(group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        handed_over = any(g["guard"] and g["handover"] is not None for g in self.param_groups)
        if handed_over and group["guard"] and group["handover"] is None:
            group["handover"] = group["step"]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_weights": self._weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()
        for moments in self.state.values():
            for name in set(MOMENTS) - set(self._moments):
                moments.pop(name, None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a copy of a state, in single precision or that of the parameters if it is higher.

        ``torch`` casts the state to the type of the parameters and may share memory with the
        dictionary. Here the state of bfloat16 parameters stays in single precision, and the
        dictionary is never modified. Moments that the weights do not need are dropped.

        Raises:
            ValueError: It is the state of another optimizer or version, lacks a moment that the
                weights need, does not match the parameter groups, or has values that are not
                finite. The optimizer is then as before.
        """
        if not isinstance(state_dict, Mapping):
            raise ValueError(f"state_dict must be a dictionary, got {type(state_dict).__name__}")
        loaded: dict[str, Any] = {}

        def keep(_: Optimizer, state_dict: dict[str, Any]) -> None:
            check_state_dict(state_dict, self.param_groups, self._moments)
            loaded.update(state_dict)

        # Pre-hooks run in the order of registration: this one sees the result of all others.
        before = self.register_load_state_dict_pre_hook(keep)
        after = self.register_load_state_dict_post_hook(
            lambda _: self._restore_precision(loaded), prepend=True
        )
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            before.remove()
            after.remove()

    def _restore_precision(self, loaded: dict[str, Any]) -> None:
        numbers = [n for group in loaded["param_groups"] for n in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in loaded["state"].get(number, {}).items():
                if name not in self.state[parameter]:
                    continue
                if name == "step":
                    # PyTorch's own optimizers accept a plain number here, too.
                    self.state[parameter][name] = cpu_number(float(value))
                else:
                    # The parameters may have another precision than those of the saved training.
                    self.state[parameter][name] = value.detach().to(
                        parameter.device, state_dtype(parameter), copy=True
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Perform one step.

        Args:
            closure: Reevaluates the model and returns the loss, which schedule and guard then use.

        Returns:
            The loss, or None without a closure.

        Raises:
            RuntimeError: A gradient is sparse, or a parameter is sharded.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_groups(None if loss is None else clipped(float(loss)))
        return loss

    @_eager
    def _step_groups(self, loss: float | None) -> None:
        active = [
            (group, parameters)
            for group in self.param_groups
            if (parameters := [p for p in group["params"] if p.grad is not None])
        ]
        for _, parameters in active:
            check_parameters(parameters)
        may_step = self._may_step([pair for pair in active if pair[0]["guard"]], loss)
        weights = self._weights_as(torch.float32, torch.device("cpu"))
        for group, parameters in active:
            if group["guard"] and not may_step:
                continue
            sizes, adamw_size = group_step_sizes(group, weights, loss)
            group["step"] += 1
            for batch in self._batches(group, parameters):
                self._update(group, batch, sizes, adamw_size)

    def _may_step(
        self, guarded: list[tuple[dict[str, Any], list[Tensor]]], loss: float | None
    ) -> bool:
        """Update the guard of all guarded groups; return whether all of them may step."""
        if not guarded:
            return True
        updates = []
        for group, parameters in guarded:
            momenta = [self.state.get(p, {}).get("momentum") for p in parameters]
            updates.append(update_guard(group, parameters, momenta, loss))
        may_step, diverged = zip(*updates, strict=True)
        if any(diverged):
            self._hand_over()
        return all(may_step)

    def _hand_over(self) -> None:
        guarded = [group for group in self.param_groups if group["guard"]]
        first = all(group["handover"] is None for group in guarded)
        for group in guarded:
            if group["handover"] is None:
                group["handover"] = group["step"]
        if first:
            warnings.warn(
                f"Training diverged at step {guarded[0]['step']}: LearnedOptimizer hands over to "
                "AdamW (guard=False turns this off)",
                stacklevel=2,
            )

    def _batches(self, group: dict[str, Any], parameters: list[Tensor]) -> Iterable[list[Tensor]]:
        """Split parameters into lists that can be updated as one batch."""
        if group["foreach"] is False:
            return [[parameter] for parameter in parameters]
        equal: dict[Any, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            step = self._state_of(parameter)["step"].item()
            key = matrix_shape(parameter), parameter.dtype, parameter.device, step
            equal[key].append(parameter)
        return [part for batch in equal.values() for part in split_batch(batch)]

    def _update(
        self, group: dict[str, Any], batch: list[Tensor], sizes: list[float], adamw_size: float
    ) -> None:
        """Update parameters of the same matrix shape, type, device and number of steps."""
        states = [self._state_of(parameter) for parameter in batch]
        for state in states:
            state["step"] += 1
        shape, kind = matrix_shape(batch[0]), kind_of(batch[0].shape, group["embedding"])
        parameters = [real_view(parameter) for parameter in batch]
        dtype = torch.promote_types(parameters[0].dtype, torch.float32)
        gradients = [real_view(p.grad).to(dtype) for p in batch if p.grad is not None]
        moments = self._accumulated(states, gradients, shape)
        gradient, parameter = as_batch(gradients, shape), as_batch(parameters, shape).to(dtype)
        step = int(states[0]["step"].item())
        update = self._direction(kind, gradient, parameter, moments, step)
        update *= sizes[kind] * layer_scale(kind, shape)
        if group["handover"] is not None:
            unbiased = moments.corrected(step)
            update += adamw_size * unbiased.fast / (unbiased.second.sqrt() + ADAMW_EPSILON)
        if group["weight_decay"]:
            update.add_(parameter, alpha=(sizes[kind] + adamw_size) * group["weight_decay"])
        for tensor, change in zip(parameters, update, strict=True):
            tensor.sub_(change.view_as(tensor))

    def _accumulated(
        self, states: list[dict[str, Any]], gradients: list[Tensor], shape: tuple[int, int]
    ) -> Moments:
        """Update the moments of each parameter, and return them as one batch."""
        moments = [[state[name] for name in self._moments] for state in states]
        for parts, gradient in zip(moments, gradients, strict=True):
            accumulate_(Moments(*parts), gradient)
        return Moments(*(as_batch(list(parts), shape) for parts in zip(*moments, strict=True)))

    def _direction(
        self, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments, step: int
    ) -> Tensor:
        if self._mixtures is not None:
            return fixed_direction(self._mixtures[kind], kind, gradient, moments)
        weights = self._weights_as(gradient.dtype, gradient.device)
        return direction(weights, kind, gradient, parameter, moments.corrected(step))

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            real, dtype = real_view(parameter), state_dtype(parameter)
            # On the CPU, as in torch's optimizers: reading it does not wait for the device.
            state["step"] = cpu_number(0.0)
            for name in self._moments:
                state[name] = torch.zeros_like(
                    real, dtype=dtype, memory_format=torch.preserve_format
                )
        return state

    def _weights_as(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The weights with a batch dimension, in another type and on another device; cached."""
        if (dtype, device) not in self._cast_weights:
            self._cast_weights[dtype, device] = {
                name: tensor.to(device, dtype)[None] for name, tensor in self._weights.items()
            }
        return self._cast_weights[dtype, device]
