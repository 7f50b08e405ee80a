"""Meta-training of the neural surrogate, in steps that can resume bit for bit.

All randomness of a step follows from the seed and the step's number; weights, their moving
average and the optimizer's state are in the checkpoint. There is no selection by validation:
the weights that count are the moving average at the end. What runs it in a folder is in
``loop.py``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from metahpo.alignment import identity_of
from metahpo.surrogate.neural import Architecture, NeuralProcess
from metahpo.train.episodes import LARGEST_TARGET, Batch, Shape, draw_shape, standardised
from metahpo.train.files import (
    below,
    check_settings,
    read_checkpoint,
    under,
    write_checkpoint,
)
from metahpo.train.prior import synthetic_episodes
from metahpo.train.recorded import Family, family_odds, recorded_episodes
from metahpo.train.reptile import Reptile
from metahpo.train.variations import anonymous

USUAL = Architecture()
# Batches whose targets say where the bars are, and the range that they cover in any case.
BORDER_BATCHES, BORDER_RANGE = 64, (-6.0, 8.0)


@dataclass(frozen=True)
class Settings:
    """What a meta-training is; kept with its checkpoint.

    Attributes:
        seed: Of everything.
        steps: In all; may be raised later.
        synthetic: Share of the batches from the prior; 1 needs no archive.
        budget: Size of a batch, see ``episodes.draw_shape``.
        rate: Largest learning rate.
        warmup: Steps until it is reached.
        cooldown: Last share of the steps, in which it falls to nothing.
        averaged: Steps that the moving average of the weights looks back.
        validate_every: Steps between two validations.
        validation_tasks: At most so many a family.
        log_every: Steps a row of the log.
        without: Tasks whose names begin so are not trained on, comma-separated.
        inner_steps: Of Reptile, on one family each (``reptile.py``); 0 for plain training.
    """

    seed: int = 0
    steps: int = 100_000
    synthetic: float = 0.5
    budget: int = 6000
    rate: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.3
    averaged: int = 1000
    validate_every: int = 2000
    validation_tasks: int = 8
    log_every: int = 100
    without: str = ""
    inner_steps: int = 0


@dataclass
class Losses:
    """Sums since the log's last row, by where episodes came from."""

    total: dict[str, float] = field(default_factory=lambda: {"synthetic": 0.0, "recorded": 0.0})
    count: dict[str, int] = field(default_factory=lambda: {"synthetic": 0, "recorded": 0})

    def add(self, source: str, loss: float) -> None:
        """One batch's."""
        self.total[source] += loss
        self.count[source] += 1

    def mean(self, source: str) -> str:
        """For the log; empty where there was none."""
        return f"{self.total[source] / self.count[source]:.4f}" if self.count[source] else ""


class SurrogateTraining:
    """Meta-trains; the state is whole after each step.

    Args:
        settings: What to do.
        families: Recorded tasks; none for a training on the prior alone.
        device: Where the network is.
        architecture: Its sizes.
        start: The network to begin with, of whatever architecture it is; a new one if not given.
    """

    def __init__(
        self,
        settings: Settings,
        families: Sequence[Family] = (),
        device: torch.device | None = None,
        architecture: Architecture = USUAL,
        start: NeuralProcess | None = None,
    ) -> None:
        self.settings, self.families = settings, list(families)
        self.device = device or torch.device("cpu")
        self.step, self.seconds, self.losses = 0, 0.0, Losses()
        self.architecture = start.architecture if start else architecture
        self.pretrained = fingerprint(start) if start else ""
        self.network = (copy.deepcopy(start) if start else self._new()).to(self.device)
        self.network.train().requires_grad_(True)
        self.averaged = {n: p.detach().clone() for n, p in self._parameters()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.reptile: Reptile | None = None
        if settings.inner_steps:
            self.reptile = Reptile(self._parameters(), settings.inner_steps)

    def _new(self) -> NeuralProcess:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return NeuralProcess(self.architecture, self._borders(self.architecture.bars))

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.network.named_parameters())

    # ---- episodes --------------------------------------------------------------------------

    def batch(self, step: int) -> tuple[str, Batch]:
        """Where the batch of a step comes from, and the batch."""
        rng = np.random.default_rng((self.settings.seed, step))
        shape = draw_shape(rng, self.settings.budget)
        if not self.architecture.past:
            shape = replace(shape, past_tasks=0)
        family = None
        if self.settings.inner_steps:
            # The same for all steps of an inner training.
            phase = (self.settings.seed, step // self.settings.inner_steps, 1)
            made_up, family = self._drawn_source(np.random.default_rng(phase))
        else:
            made_up = not self.families or rng.random() < self.settings.synthetic
        batch = self._drawn_batch(shape, rng, made_up, family)
        if not self.architecture.descriptions:
            # What the codes of names mean must not be learned instead.
            batch = replace(batch, description=anonymous(batch.description, rng))
        return ("synthetic" if made_up else "recorded"), batch

    def _drawn_source(self, rng: np.random.Generator) -> tuple[bool, int | None]:
        """Whether the prior, which counts as one family, or which recorded family."""
        if not self.families or rng.random() < self.settings.synthetic:
            return True, None
        return False, int(rng.choice(len(self.families), p=family_odds(self.families)))

    def _drawn_batch(
        self, shape: Shape, rng: np.random.Generator, made_up: bool, family: int | None
    ) -> Batch:
        if made_up:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return standardised(synthetic_episodes(shape, generator))
        return standardised(recorded_episodes(self.families, shape, rng, family))

    def _borders(self, bars: int) -> Tensor:
        """Borders that are dense where targets are: quantiles of these and of a wide range."""
        # Numbers that no step has.
        drawn = [self.batch(2**40 + number)[1] for number in range(BORDER_BATCHES)]
        targets = torch.cat([batch.targets.flatten()[:4000] for batch in drawn])
        low, high = BORDER_RANGE
        spread = torch.linspace(low, high, max(len(targets) // 3, 2))
        together = torch.cat([targets.clamp(low, high), spread])
        borders = together.quantile(torch.arange(1, bars) / bars)
        # Values that repeat (plateaus) would make bars without width.
        least = torch.arange(bars - 1) * 1e-3
        return (borders - least).cummax(0).values + least

    # ---- steps -----------------------------------------------------------------------------

    def advance(self) -> float:
        """Takes one step.

        Returns:
            The loss: the mean negative log density of the queries' scores.
        """
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            answer = self.network(batch.description, batch.trials, batch.queries, batch.past)
        loss = -answer.log_density(batch.targets.clamp_max(LARGEST_TARGET)).mean()
        loss.backward()
        clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        if self.reptile:
            self.reptile.after(self.step, self._parameters(), self._left)
        self._average()
        self.losses.add(source, loss.item())
        return loss.item()

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

    def averaged_network(self) -> NeuralProcess:
        """The network with averaged weights, ready to predict."""
        network = NeuralProcess(self.network.architecture)
        network.load_state_dict({**self.network.state_dict(), **self.averaged})
        trained = {frozenset(map(identity_of, family.space)) for family in self.families}
        network.learners = self.network.learners | trained
        return network.to(self.device).eval().requires_grad_(False)

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
        told = {
            "settings": asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "families": self._told_families(),
            "pretrained": self.pretrained,
            "step": self.step,
            "seconds": self.seconds,
            "losses": asdict(self.losses),
        }
        write_checkpoint(path, tensors, told)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or its settings or tasks are others.
        """
        tensors, told = read_checkpoint(path, self.device)
        wanted = {
            **asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "families": self._told_families(),
            "pretrained": self.pretrained,
        }
        # A training may be prolonged.
        del wanted["steps"]
        # What a checkpoint does not tell of was not there yet when it was written.
        found = {**asdict(Settings()), "pretrained": "", **told["settings"], **told}
        found["architecture"] = {**asdict(Architecture()), **told["architecture"]}
        check_settings(path, wanted, found)
        self.network.load_state_dict(below("network", tensors))
        self.averaged = below("average", tensors)
        states = {
            number: below(f"optimizer.{number}", tensors)
            for number in range(len(self._parameters()))
        }
        groups = self.optimizer.state_dict()["param_groups"]
        if told["step"]:
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.reptile:
            self.reptile.restore(below("reptile", tensors))
        self.step, self.seconds = told["step"], told["seconds"]
        self.losses = Losses(**told["losses"])

    def _told_families(self) -> list[Any]:
        return [[len(f.space), len(f.tasks), f.tasks[0].name] for f in self.families]


def fingerprint(network: NeuralProcess) -> str:
    """Twelve digits that no other weights have."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
