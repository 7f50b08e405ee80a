"""Descriptions of search spaces."""

import torch
from optuna.distributions import FloatDistribution

from metahpo.surrogate.networks.space_description import describe
from metahpo.tasks.space import Space


def test_synonyms_share_a_code_and_other_names_do_not() -> None:
    ours, theirs = (
        describe(Space({name: FloatDistribution(1e-5, 1.0, log=True) for name in names}))
        for names in (("learning_rate", "widget"), ("eta", "gadget"))
    )
    assert torch.equal(ours.roles[0], theirs.roles[0])
    assert torch.equal(ours.identities[0], theirs.identities[0])
    assert ours.roles[0] != 0
    assert ours.roles[1] == theirs.roles[1] == 0
    assert not torch.equal(ours.identities[1], theirs.identities[1])


def test_two_synonyms_in_one_space_have_different_codes_in_any_order() -> None:
    names = ["learning_rate", "lr", "momentum"]
    distribution = FloatDistribution(0.0, 1.0)
    one = describe(Space(dict.fromkeys(names, distribution)))
    two = describe(Space(dict.fromkeys(reversed(names), distribution)))
    assert not torch.equal(one.identities[0], one.identities[1])
    assert torch.equal(one.identities, two.identities.flip(0))
