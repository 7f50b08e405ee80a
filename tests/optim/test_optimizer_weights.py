"""Weights of the learned optimizer: written, read, and checked."""

from pathlib import Path

import pytest
import torch

from metahpo.optim import WeightsError, initial_weights, load_weights, save_weights


def test_weights_written_to_a_file_are_read_back_equal(tmp_path: Path) -> None:
    weights = initial_weights(3)
    save_weights(weights, tmp_path / "w.safetensors", seed="3")
    read = load_weights(tmp_path / "w.safetensors")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule.mix": torch.full((3, 9), torch.nan)}, "rule.mix has values that are not finite"),
        ({"rule.mix": torch.zeros(2, 9)}, r"rule.mix has shape \(2, 9\), expected \(3, 9\)"),
        ({"step.log_floor": torch.zeros(2)}, r"unexpected tensor step\.log_floor"),
    ],
)
def test_a_file_with_other_tensors_is_rejected_with_their_names(changed, message, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights({**initial_weights(), **changed}, path)
    with pytest.raises(WeightsError, match=f"w.safetensors: .*{message}"):
        load_weights(path)


def test_a_file_in_another_format_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(path)
