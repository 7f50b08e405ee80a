"""What the process has set in PyTorch changes no suggestion, and is as it was afterwards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from support.problems import CONDITIONAL, bowl, history_of, random_task
from support.quick import QUICK

from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.policy import suggest
from metahpo.surrogate import pretrained_family

Setting = Callable[[], AbstractContextManager]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS: dict[str, Setting] = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    # Tensors there have no values: whatever is made on it shows at once.
    "device": lambda: default_device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def decision(surrogate: str, seed: int = 0) -> Decision:
    """By the surrogate, of a network or a Gaussian process that nothing is kept of."""
    pretrained_family._family.cache_clear()
    learners = [lambda c, shift=shift: -abs(c["layers"] - 2) - shift for shift in (0.0, 0.1)]
    history = history_of(*learners, space=CONDITIONAL)
    task = random_task(learners[0], CONDITIONAL, n=6, seed=9)
    return suggest(task, history, seed=seed, surrogate=surrogate, settings=QUICK)


@pytest.mark.parametrize("surrogate", ["gp", "neural"])
@pytest.mark.parametrize("name", SETTINGS)
def test_suggestions_do_not_depend_on_the_settings_of_the_process(name, surrogate):
    plain = decision(surrogate)
    assert plain.source is Source.ACQUISITION
    with SETTINGS[name]():
        before = _state()
        changed = decision(surrogate)
        assert _state() == before
    assert changed == plain
    # Nor is what was kept meanwhile spoilt.
    assert decision(surrogate) == plain


@pytest.mark.parametrize("name", SETTINGS)
def test_a_network_alone_predicts_the_same_under_any_settings(name):
    task = random_task(bowl(0.3), n=6, seed=3)
    plain = suggest(task, [], seed=0)
    pretrained_family._family.cache_clear()
    with SETTINGS[name]():
        assert suggest(task, [], seed=0) == plain
    assert suggest(task, [], seed=0) == plain


def _state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )
