"""Attention that decays with distance."""

import torch

from metahpo.surrogate.networks.attention import PLACE_WIDTH, Block


def test_attention_logits_are_dot_products_minus_half_the_squared_distance() -> None:
    """Against the plain formula; a token without a place has distance 0 to every query."""
    torch.manual_seed(0)
    block = Block(16, 2).eval().requires_grad_(False)
    tokens, context, at, places = (torch.randn(3, n, 16) for n in (5, 7, 5, 7))
    placed = torch.tensor([True] * 6 + [False])
    key, value = block.keys_and_values(context, places, placed)
    updated = block(tokens, key, value, places=at)

    query = block.query(block.of_tokens(tokens)).view(3, 5, 2, 8).transpose(1, 2)
    plain_key, plain_value = block.keys_and_values(context)
    logits = query @ plain_key.mT / 8**0.5
    for head in range(2):
        rows = slice(head * PLACE_WIDTH, (head + 1) * PLACE_WIDTH)
        weight = block.place.weight[rows] * block.log_sharpness[head].exp()
        distance = torch.cdist(block.of_places(at) @ weight.T, block.of_places(places) @ weight.T)
        logits[:, head] -= 0.5 * distance.square() * placed
    attended = (logits.softmax(-1) @ plain_value).transpose(1, 2).flatten(-2)
    expected = tokens + block.out(attended)
    expected = expected + block.hidden(block.of_hidden(expected))
    assert torch.allclose(updated, expected, atol=1e-4)
