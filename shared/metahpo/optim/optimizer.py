"""The learned optimizer as a ``torch.optim.Optimizer``: a shell about rule, schedule and guard."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from metahpo.optim import guard as guards
from metahpo.optim.checks import check_group, check_parameters
from metahpo.optim.fixed import fixed_direction, fixed_shares, takes_slow_momentum
from metahpo.optim.groups import parameter_groups
from metahpo.optim.rule import (
    Moments,
    accumulate_,
    direction,
    kind_of,
    layer_scale,
)
from metahpo.optim.schedule import LARGEST_LOSS, LossStatistics, shape, step_sizes
from metahpo.optim.tensors import batch_of, divided, form_of, norm, real_view
from metahpo.optim.weights import check_weights, shipped_weights

# After the hand-over: AdamW's defaults, and the steps that going over to it takes.
ADAMW_STEP, ADAMW_EPSILON = 1e-3, 1e-8
HANDOVER = 50
# In the order of ``Moments``.
MOMENTS = ("momentum", "second_moment", "slow_momentum")


Function = TypeVar("Function", bound=Callable[..., Any])


def _eager(function: Function) -> Function:
    """A compiled step runs this as it is: compiled, its counters counted twice."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]


class LearnedOptimizer(Optimizer):
    """An optimizer whose update rule and schedule were learned: no learning rate to choose.

    Each parameter moves by ``lr`` x (relative step size at this share of ``num_steps``) x (size
    of its layer) x (direction); see ``metahpo.optim.rule`` and ``metahpo.optim.schedule``. The
    optimizer keeps two numbers of (at least) single precision for each parameter, and three with
    weights that take the slow momentum. Parameters must be whole: matrices that are sharded
    cannot be made orthogonal.

    A parameter group counts its own steps and may have its own ``num_steps``, ``weight_decay``
    and ``lr``; ``lr``, 1 at first, scales the step for learning rate schedulers. A group with
    ``embedding=True`` holds tables whose rows are looked up or added to activations, and are no
    matrices that map one activation to another. The weights of the rule are no part of
    ``state_dict``: a training goes on alike only with the same ones.

    Args:
        params: The module to be trained, whose embeddings then are known
            (``metahpo.optim.parameter_groups``); or parameters, or dictionaries of groups.
        num_steps: For how many steps the training is to last; after that many, the step size
            stays at its last, small value.
        weight_decay: Decoupled; a share of this, times the relative step size (a few hundredths
            at the peak of a training of 1,000 steps), is taken off each parameter at each step.
        guard: Whether to hand over to AdamW when the loss (if ``step`` is given a closure) or
            the norms of gradients or parameters diverge; also, a step with gradients that are
            not finite is then left out. Guarded groups stand and fall together. It costs a
            synchronisation with the device at each step.
        foreach: Whether equal tensors are updated together; None for yes.
        weights: Others than those that come with the package, as
            ``metahpo.optim.weights.load_weights`` reads them.

    Raises:
        ValueError: An argument is out of range.
        TypeError: ``num_steps`` is no whole number.
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
        defaults = {
            "lr": 1.0,
            "num_steps": num_steps,
            "weight_decay": weight_decay,
            "guard": guard,
            "foreach": foreach,
            "embedding": False,
            "step": 0,
            "losses": (0.0, 0.0, 0.0, 0.0),
            "watch": tuple(guards.Watch()),
            "handover": None,
        }
        given = parameter_groups(params) if isinstance(params, nn.Module) else params
        super().__init__(given, defaults)

    def _prepare(self) -> None:
        """What follows from the weights."""
        self._cast: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}
        self._shares = fixed_shares(self._weights)
        slow = self._shares is None or takes_slow_momentum(self._shares)
        self._moments = MOMENTS if slow else MOMENTS[:2]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, which begins at its own step 0."""
        super().add_param_group(param_group)
        try:
            check_group(self.param_groups[-1])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_weights": self._weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("embedding", False)
        self._prepare()
        for state in self.state.values():
            for name in set(MOMENTS) - set(self._moments):
                state.pop(name, None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state; copies it, in its own precision.

        ``torch`` casts an optimizer's state to the parameters' type and may share memory with
        the dictionary; here bfloat16 parameters keep their state in single precision, and the
        dictionary is never altered. Moments that these weights do not take are left out.

        Raises:
            ValueError: A moment is missing that these weights take; or as ``torch`` has it.
        """
        given: dict[str, Any] = {}

        def take(_: Optimizer, state_dict: dict[str, Any]) -> None:
            for state in state_dict["state"].values():
                if "momentum" in state and not state.keys() >= set(self._moments):
                    raise ValueError("the state is of weights that take fewer moments than these")
            given.update(state_dict)

        # Hooks run in the order in which they came, so that these see what all others made.
        before = self.register_load_state_dict_pre_hook(take)
        after = self.register_load_state_dict_post_hook(
            lambda _: self._restore_precision(given), prepend=True
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def _restore_precision(self, given: dict[str, Any]) -> None:
        numbers = [n for group in given["param_groups"] for n in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in given["state"].get(number, {}).items():
                if name not in self.state[parameter]:
                    continue
                if isinstance(value, Tensor):
                    device = value.device if name == "step" else parameter.device
                    self.state[parameter][name] = value.detach().clone().to(device)
                elif name == "step":
                    # As PyTorch's own optimizers take it.
                    self.state[parameter][name] = _number(value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Takes a step.

        Args:
            closure: Evaluates the model anew and returns the loss, of which the schedule and the
                guard then take account.

        Returns:
            The loss, or None without a closure.

        Raises:
            RuntimeError: A gradient is sparse, or a parameter sharded.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_groups(None if loss is None else _bounded(float(loss)))
        return loss

    @_eager
    def _step_groups(self, loss: float | None) -> None:
        ready = [
            (group, parameters)
            for group in self.param_groups
            if (parameters := [p for p in group["params"] if p.grad is not None])
        ]
        for _, parameters in ready:
            check_parameters(parameters)
        sound = self._watched([pair for pair in ready if pair[0]["guard"]], loss)
        for group, parameters in ready:
            if group["guard"] and not sound:
                continue
            sizes, adamw = self._sizes(group, loss)
            group["step"] += 1
            for members in self._together(group, parameters):
                self._update(group, members, sizes, adamw)

    # ---- how far -------------------------------------------------------------------------------

    def _watched(
        self, guarded: list[tuple[dict[str, Any], list[Tensor]]], loss: float | None
    ) -> bool:
        """Watches over guarded groups, which stand and fall together; whether to take the step."""
        sound, diverged = True, False
        for group, parameters in guarded:
            gradient = norm([p.grad for p in parameters if p.grad is not None])
            watch = guards.watched(guards.Watch(*group["watch"]), gradient, norm(parameters), loss)
            group["watch"] = tuple(watch)
            sound &= math.isfinite(gradient)
            diverged |= watch.diverged
        if diverged:
            self._hand_over()
        return sound

    def _hand_over(self) -> None:
        guarded = [group for group in self.param_groups if group["guard"]]
        first = all(group["handover"] is None for group in guarded)
        for group in guarded:
            if group["handover"] is None:
                group["handover"] = group["step"]
        if first:
            warnings.warn(
                f"Training diverged at step {guarded[0]['step']}: LearnedOptimizer hands over to "
                "AdamW (guard=False leaves it to itself)",
                stacklevel=2,
            )

    def _sizes(self, group: dict[str, Any], loss: float | None) -> tuple[list[float], float]:
        """Relative step sizes by kind, and AdamW's step size, both with their shares in them."""
        weights = self._weights_as(torch.float32, torch.device("cpu"))
        losses = LossStatistics(*(_number(value)[None] for value in group["losses"]))
        if loss is not None and math.isfinite(loss):
            losses = losses.with_loss(_number(loss)[None])
            group["losses"] = tuple(part.item() for part in losses)
        step, num_steps = _number(group["step"])[None], _number(group["num_steps"])[None]
        sizes = step_sizes(weights, step, num_steps, losses.features())[0].tolist()
        lr = float(group["lr"])
        if group["handover"] is None:
            return [lr * size for size in sizes], 0.0
        share = min(1.0, (group["step"] - group["handover"] + 1) / HANDOVER)
        decay = shape(weights, (step / num_steps).clamp(max=1)).item()
        return [lr * (1 - share) * size for size in sizes], lr * share * ADAMW_STEP * decay

    # ---- where to ------------------------------------------------------------------------------

    def _together(self, group: dict[str, Any], parameters: list[Tensor]) -> Iterable[list[Tensor]]:
        """Lists of parameters that can be updated as one batch."""
        if group["foreach"] is False:
            return [[parameter] for parameter in parameters]
        alike: dict[Any, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            step = self._state_of(parameter)["step"].item()
            alike[form_of(parameter), parameter.dtype, parameter.device, step].append(parameter)
        return [part for members in alike.values() for part in divided(members)]

    def _update(
        self, group: dict[str, Any], members: list[Tensor], sizes: list[float], adamw: float
    ) -> None:
        """Updates parameters of one form, type, device and number of steps."""
        states = [self._state_of(parameter) for parameter in members]
        for state in states:
            state["step"] += 1
        form, kind = form_of(members[0]), kind_of(members[0].shape, group["embedding"])
        parameters = [real_view(parameter) for parameter in members]
        dtype = torch.promote_types(parameters[0].dtype, torch.float32)
        gradients = [real_view(p.grad).to(dtype) for p in members if p.grad is not None]
        moments = self._accumulated(states, gradients)
        gradient, parameter = batch_of(gradients, form), batch_of(parameters, form).to(dtype)
        running = Moments(*(batch_of(list(parts), form) for parts in zip(*moments, strict=True)))
        step = int(states[0]["step"].item())
        update = self._direction(kind, gradient, parameter, running, step)
        update *= sizes[kind] * layer_scale(kind, form)
        if group["handover"] is not None:
            unbiased = running.corrected(step)
            update += adamw * unbiased.fast / (unbiased.second.sqrt() + ADAMW_EPSILON)
        if group["weight_decay"]:
            update.add_(parameter, alpha=(sizes[kind] + adamw) * group["weight_decay"])
        for tensor, change in zip(parameters, update, strict=True):
            tensor.sub_(change.view_as(tensor))

    def _accumulated(
        self, states: list[dict[str, Any]], gradients: list[Tensor]
    ) -> list[list[Tensor]]:
        """The moments of each parameter, in the order of ``Moments``, its gradient in them."""
        moments = [[state[name] for name in self._moments] for state in states]
        for parts, gradient in zip(moments, gradients, strict=True):
            accumulate_(Moments(*parts), gradient)
        return moments

    def _direction(
        self, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments, step: int
    ) -> Tensor:
        if self._shares is not None:
            return fixed_direction(self._shares[kind], kind, gradient, moments)
        weights = self._weights_as(gradient.dtype, gradient.device)
        return direction(weights, kind, gradient, parameter, moments.corrected(step))

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            real = real_view(parameter)
            dtype = torch.promote_types(real.dtype, torch.float32)
            # On the CPU, as torch has it: nothing then waits for the device.
            state["step"] = _number(0.0)
            for name in self._moments:
                state[name] = torch.zeros_like(
                    real, dtype=dtype, memory_format=torch.preserve_format
                )
        return state

    def _weights_as(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        if (dtype, device) not in self._cast:
            self._cast[dtype, device] = {
                name: tensor.to(device, dtype)[None] for name, tensor in self._weights.items()
            }
        return self._cast[dtype, device]


def _bounded(loss: float) -> float:
    """Squares of larger losses overflow."""
    return max(-LARGEST_LOSS, min(LARGEST_LOSS, loss)) if math.isfinite(loss) else loss


def _number(value: float) -> Tensor:
    """On the CPU and of single precision, as the weights are, whatever PyTorch's defaults."""
    return torch.tensor(float(value), dtype=torch.float32, device="cpu")
