"""A network's meta-training, in steps that can resume bit for bit.

All randomness of a step follows from the seed and the step's number; weights, their moving
average and the optimizer's state are in the checkpoint. There is no selection by validation:
the weights that count are the moving average at the end. What runs it in a folder is in
``loop.py``.
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

from metahpo.train.files import below, check_settings, read_checkpoint, under, write_checkpoint
from metahpo.train.reptile import Reptile

# What a checkpoint tells that does not say which training it is of.
CHANGING = ("settings", "steps", "step", "seconds", "losses", "found")


@dataclass(frozen=True)
class Schedule:
    """What the settings of all meta-trainings have; kept with their checkpoints.

    Attributes:
        seed: Of everything.
        steps: In all; may be raised later.
        synthetic: Share of the batches from the prior; 1 needs no archive.
        rate: Largest learning rate.
        warmup: Steps until it is reached.
        cooldown: Last share of the steps, in which it falls to nothing.
        averaged: Steps that the moving average of the weights looks back.
        validate_every: Steps between two validations.
        log_every: Steps a row of the log.
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
    """Meta-trains; the state is whole after each step.

    Args:
        settings: What to do.
        network: What is trained.
        device: Where it is.
        inner_steps: Of Reptile; 0 for plain training.

    Attributes:
        before: What checkpoints may not tell, since it was not there yet when they were written.
    """

    before: ClassVar[dict[str, Any]] = {}

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
        # Since the log's last row, by where batches came from.
        self.losses: dict[str, list[float]] = {"synthetic": [], "recorded": []}
        self.averaged = {n: p.detach().clone() for n, p in self._parameters()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.reptile = Reptile(self._parameters(), inner_steps) if inner_steps else None

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.network.named_parameters())

    # ---- what differs ----------------------------------------------------------------------

    @abstractmethod
    def _loss(self) -> tuple[str, Tensor, Tensor]:
        """Where the step's batch comes from, what is minimised, and what is logged."""

    @abstractmethod
    def write_weights(self, path: Path, **told: str) -> None:
        """Writes those of the averaged network, with its sizes and what else is told."""

    @abstractmethod
    def _told(self) -> dict[str, Any]:
        """For a checkpoint: settings, sizes, data, and the losses since the log's last row."""

    @abstractmethod
    def _losses(self, told: Mapping[str, Any]) -> dict[str, list[float]]:
        """Those of a checkpoint."""

    # ---- steps -----------------------------------------------------------------------------

    def advance(self) -> float:
        """Takes one step.

        Returns:
            The mean negative log density of what was asked about.
        """
        source, loss, negative = self._loss()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        if self.reptile:
            self.reptile.after(self.step, self._parameters(), self._left)
        self._average()
        self.losses[source].append(negative.item())
        return negative.item()

    @property
    def rate(self) -> float:
        """The learning rate of the next step: warm-up, plateau, and a fall at the end.

        With Reptile, what falls is the outer rate.
        """
        done = min(1.0, (self.step + 1) / self.settings.warmup)
        if self.reptile:
            return self.settings.rate * done
        return self.settings.rate * min(done, self._left / self.settings.cooldown)

    @property
    def _left(self) -> float:
        """Which share of the steps is left."""
        return (self.settings.steps - self.step) / self.settings.steps

    def _average(self) -> None:
        # Shorter at first, when the weights still move fast.
        share = 1.0 / min(self.settings.averaged, 1 + self.step / 4)
        with torch.no_grad():
            for name, parameter in self.reptile.weights if self.reptile else self._parameters():
                self.averaged[name].lerp_(parameter, share)

    def averaged_network(self) -> Network:
        """The network with averaged weights, ready to predict."""
        network = copy.deepcopy(self.network)
        network.load_state_dict({**network.state_dict(), **self.averaged})
        return network.eval().requires_grad_(False)

    def mean_losses(self) -> dict[str, str]:
        """For a row of the log; the next one's begin anew."""
        means = {
            source: f"{math.fsum(losses) / len(losses):.4f}"
            for source, losses in self.losses.items()
            if losses
        }
        self.losses = {source: [] for source in self.losses}
        return means

    # ---- checkpoints -----------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes everything that a resumed training needs."""
        tensors = {
            **under("network", self.network.state_dict()),
            **under("average", self.averaged),
        }
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= under(f"optimizer.{number}", state)
        if self.reptile:
            tensors |= under("reptile", dict(self.reptile.weights))
        told = {**self._told(), "step": self.step, "seconds": self.seconds}
        write_checkpoint(path, tensors, told)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or its settings or tasks are others.
        """
        tensors, told = read_checkpoint(path, self.device)
        # As JSON has it, which knows no tuples.
        wanted = json.loads(json.dumps(self._told()))
        check_settings(path, self._fixed(wanted), self._fixed(told))
        self.network.load_state_dict(below("network", tensors))
        self.averaged = below("average", tensors)
        # A parameter that no loss has reached yet has no state.
        states = {
            number: state
            for number in range(len(self.averaged))
            if (state := below(f"optimizer.{number}", tensors))
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.reptile:
            self.reptile.restore(below("reptile", tensors))
        self.step, self.seconds = told["step"], told["seconds"]
        self.losses = self._losses(told)

    def _fixed(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What must not change from a checkpoint to a training that goes on from it."""
        whole = {**self.before, **told.get("settings", {}), **told}
        whole["architecture"] = {**self.before.get("architecture", {}), **told["architecture"]}
        return {name: value for name, value in whole.items() if name not in CHANGING}
