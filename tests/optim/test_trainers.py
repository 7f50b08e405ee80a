"""LearnedOptimizer in Lightning and Hugging Face Trainer, as docs/learned_optimizer.md shows.

Lightning is among the dev dependencies. The test of Trainer is skipped where transformers and
accelerate are not installed: pip install transformers accelerate.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from metahpo import LearnedOptimizer

pytestmark = [
    # Lightning and transformers warn about newer versions, workers and loggers.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("trainers"),
]


class Points(Dataset):
    """Points of two clusters, labelled by cluster."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(96) % 2
        self.inputs = torch.randn(96, 4, generator=generator) + 2 * self.labels[:, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[place], "labels": self.labels[place]}


class Network(nn.Module):
    """A network in the form that Trainer expects: labels in, loss out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.layers(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def _loss(network: Network) -> float:
    data = Points()
    with torch.no_grad():
        return network(data.inputs, data.labels)["loss"].item()


def _lightning_module():
    lightning = pytest.importorskip("lightning.pytorch", reason="pip install lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network()

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            return self.network(**batch)["loss"]

        def configure_optimizers(self) -> LearnedOptimizer:
            return LearnedOptimizer(self, num_steps=int(self.trainer.estimated_stepping_batches))

    return lightning, Module()


def _lightning_trainer(lightning, folder: Path, epochs: int, **more):
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **more,
    )  # fmt: skip


def test_lightning_trains_and_passes_the_loss(tmp_path: Path) -> None:
    lightning, module = _lightning_module()
    trainer = _lightning_trainer(lightning, tmp_path, 6, gradient_clip_val=1.0)
    before = _loss(module.network)
    trainer.fit(module, DataLoader(Points(), batch_size=16, shuffle=True))
    [optimizer] = trainer.optimizers
    [group] = optimizer.param_groups
    assert (group["num_steps"], group["step"]) == (36, 36)
    assert group["losses"][0] == 36, "Lightning passes a closure"
    assert _loss(module.network) < 0.7 * before


def test_a_training_resumed_by_lightning_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """The parameters equal those of an uninterrupted training."""
    loader = DataLoader(Points(), batch_size=16)
    lightning, whole = _lightning_module()
    _lightning_trainer(lightning, tmp_path, 4).fit(whole, loader)

    _, first = _lightning_module()
    # num_steps is that of the whole training.
    first.configure_optimizers = lambda: LearnedOptimizer(first, num_steps=24)
    trainer = _lightning_trainer(lightning, tmp_path, 2)
    trainer.fit(first, loader)
    trainer.save_checkpoint(tmp_path / "middle.ckpt")
    _, second = _lightning_module()
    path = str(tmp_path / "middle.ckpt")
    _lightning_trainer(lightning, tmp_path, 4).fit(second, loader, ckpt_path=path)
    for one, two in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("by_class", [True, False])
def test_hugging_face_trainer_trains_with_it_given_as_class_or_object(
    by_class: bool, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    pytest.importorskip("accelerate", reason="pip install accelerate")
    network = Network()
    before = _loss(network)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=36,
        per_device_train_batch_size=16,
        # The optimizer has its own schedule.
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_steps=18,
    )
    horizon = {"num_steps": arguments.max_steps}
    ours = (
        {"optimizer_cls_and_kwargs": (LearnedOptimizer, horizon)}
        if by_class
        else {"optimizers": (LearnedOptimizer(network, **horizon), None)}
    )
    trainer = transformers.Trainer(network, arguments, train_dataset=Points(), **ours)
    trainer.train()
    inner = trainer.optimizer
    optimizer = getattr(inner, "optimizer", inner)
    assert isinstance(optimizer, LearnedOptimizer)
    assert {group["step"] for group in optimizer.param_groups} == {36}
    assert {group["lr"] for group in optimizer.param_groups} == {1.0}
    assert _loss(network) < 0.7 * before
