"""Meta-training of a network in steps that resume bit for bit.

All randomness of a step follows from the seed and the number of the step; the checkpoint holds
the weights, their moving average and the optimizer's state. Weights are not selected by
validation: the result is the moving average at the end. ``loop.py`` runs a training in a folder.
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from metahpo.surrogate.networks.network_file import check_shapes, check_values
from metahpo.train.files import (
    add_prefix,
    check_settings,
    check_tensors,
    checked_count,
    checked_seconds,
    read_checkpoint,
    restoring,
    with_prefix,
    write_checkpoint,
)
from metahpo.train.reptile import Reptile

# Metadata of a checkpoint that may differ when a training resumes.
MUTABLE_METADATA = ("settings", "steps", "step", "seconds", "losses", "found")


@dataclass(frozen=True)
class Schedule:
    """Settings that all meta-trainings share; kept in their checkpoints.

    Attributes:
        seed: Seed of all random numbers.
        steps: Total number of steps; may be raised later.
        synthetic: Share of the batches drawn from the prior, in [0, 1]; 1 needs no archive.
        rate: Peak learning rate.
        warmup: Steps until the peak is reached.
        cooldown: Share of the steps, at the end, over which the rate falls to zero.
        averaged: Window of the moving average of the weights, in steps.
        validate_every: Steps between two validations.
        log_every: Steps between two rows of the log.
    """

    seed: int
    steps: int
    synthetic: float
    rate: float
    warmup: int
    cooldown: float
    averaged: int
    validate_every: int
    log_every: int


Settings = TypeVar("Settings", bound=Schedule)
Network = TypeVar("Network", bound=nn.Module)


class Training(ABC, Generic[Settings, Network]):
    """A meta-training whose state is complete after each step.

    Args:
        settings: Schedule and settings of the training.
        network: The network to train.
        device: Where to train it; the CPU by default.
        inner_steps: Inner steps of Reptile; 0 for plain training.

    Attributes:
        legacy_metadata: Metadata that older checkpoints lack, with the values they imply.
    """

    legacy_metadata: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        settings: Settings,
        network: Network,
        device: torch.device | None = None,
        inner_steps: int = 0,
    ) -> None:
        self.settings, self.device = settings, device or torch.device("cpu")
        self.network = network.to(self.device).train().requires_grad_(True)
        self.step, self.seconds = 0, 0.0
        # Losses since the last row of the log, by the source of the batch.
        self.losses: dict[str, list[float]] = {"synthetic": [], "recorded": []}
        self.averaged = {n: p.detach().clone() for n, p in self._parameters()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.reptile = Reptile(self._parameters(), inner_steps) if inner_steps else None

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.network.named_parameters())

    # ---- for subclasses --------------------------------------------------------------------

    @abstractmethod
    def _loss(self) -> tuple[str, Tensor, Tensor]:
        """Return the batch's source, the loss to minimise, and the detached value to log."""

    @abstractmethod
    def write_weights(self, path: Path, **metadata: str) -> None:
        """Write the averaged weights with the network's sizes and more metadata."""

    @abstractmethod
    def _metadata(self) -> dict[str, Any]:
        """Return settings, sizes, data, and the losses since the last row of the log."""

    @abstractmethod
    def _losses_in(self, metadata: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return the losses that ``_metadata`` stored."""

    # ---- steps -----------------------------------------------------------------------------

    def advance(self) -> float:
        """Take one step.

        Returns:
            The mean negative log density of the targets.
        """
        source, loss, negative_log_density = self._loss()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        if self.reptile:
            self.reptile.after_step(self.step, self._parameters(), self._remaining)
        self._update_average()
        self.losses[source].append(negative_log_density.item())
        return negative_log_density.item()

    @property
    def rate(self) -> float:
        """The learning rate of the next step: warm-up, plateau, and a fall at the end.

        With Reptile, the outer rate falls instead.
        """
        warmed_up = min(1.0, (self.step + 1) / self.settings.warmup)
        if self.reptile:
            return self.settings.rate * warmed_up
        return self.settings.rate * min(warmed_up, self._remaining / self.settings.cooldown)

    @property
    def _remaining(self) -> float:
        """The share of the steps that is still to be taken."""
        return (self.settings.steps - self.step) / self.settings.steps

    def _update_average(self) -> None:
        # A shorter window at first, when the weights still move fast.
        share = 1.0 / min(self.settings.averaged, 1 + self.step / 4)
        with torch.no_grad():
            for name, parameter in self.reptile.weights if self.reptile else self._parameters():
                self.averaged[name].lerp_(parameter, share)

    def averaged_network(self) -> Network:
        """Return a copy of the network with the averaged weights, in evaluation mode."""
        network = copy.deepcopy(self.network)
        network.load_state_dict({**network.state_dict(), **self.averaged})
        return network.eval().requires_grad_(False)

    def pop_mean_losses(self) -> dict[str, str]:
        """Return the mean losses since the last call, as log entries."""
        means = {
            source: f"{math.fsum(losses) / len(losses):.4f}"
            for source, losses in self.losses.items()
            if losses
        }
        self.losses = {source: [] for source in self.losses}
        return means

    # ---- checkpoints -----------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write everything that a resumed training needs."""
        tensors = {
            **add_prefix("network", self.network.state_dict()),
            **add_prefix("average", self.averaged),
        }
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= add_prefix(f"optimizer.{number}", state)
        if self.reptile:
            tensors |= add_prefix("reptile", dict(self.reptile.weights))
        metadata = {**self._metadata(), "step": self.step, "seconds": self.seconds}
        write_checkpoint(path, tensors, metadata)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or has different settings or tasks.
        """
        tensors, metadata = read_checkpoint(path, self.device)
        with restoring(path):
            # Through JSON, which turns tuples into lists.
            expected = json.loads(json.dumps(self._metadata()))
            check_settings(path, self._fixed(expected), self._fixed(metadata))
            self._restore(tensors, metadata)

    def _restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Set the state to that of a checkpoint.

        Raises:
            ValueError, LookupError, TypeError: For a checkpoint that is damaged.
        """
        network, averaged = with_prefix("network", tensors), with_prefix("average", tensors)
        check_tensors(self.network.state_dict(), network)
        check_tensors(self.averaged, averaged)
        check_values(network)
        check_values(averaged)
        self.network.load_state_dict(network)
        self.averaged = averaged
        # A parameter that no gradient has reached yet has no state.
        states = {
            number: state
            for number in range(len(self.averaged))
            if (state := with_prefix(f"optimizer.{number}", tensors))
        }
        parameters = list(self.network.parameters())
        for number, state in states.items():
            _check_moments(state, parameters[number])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.reptile:
            outer = with_prefix("reptile", tensors)
            check_tensors(dict(self.reptile.weights), outer)
            self.reptile.restore(outer)
        self.step = checked_count(metadata["step"])
        self.seconds = checked_seconds(metadata["seconds"])
        losses = self._losses_in(metadata)
        if not losses.keys() == self.losses.keys() or not all(map(_are_losses, losses.values())):
            raise ValueError("its losses are no numbers by source")
        self.losses = losses

    def _fixed(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata that a resumed training must share with its checkpoint."""
        merged = {**self.legacy_metadata, **metadata.get("settings", {}), **metadata}
        architecture = {**self.legacy_metadata.get("architecture", {}), **metadata["architecture"]}
        merged["architecture"] = architecture
        return {name: value for name, value in merged.items() if name not in MUTABLE_METADATA}


def _are_losses(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, float) for value in values)


def _check_moments(state: Mapping[str, Tensor], parameter: Tensor) -> None:
    """Raise ValueError unless a state of AdamW's fits its parameter."""
    shape = tuple(parameter.shape)
    expected = {"exp_avg": shape, "exp_avg_sq": shape, "step": ()}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in state.items()})
    check_values({name: tensor for name, tensor in state.items() if name != "step"})
