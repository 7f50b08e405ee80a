"""Parameter groups of a module: embeddings apart from the rest."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# A parameter that belongs to no embedding module counts as an embedding if its name contains one
# of the first words or ends with one of the second: positions, pos_embed, cls_token.
EMBEDDING_WORDS = {
    "embed", "embedding", "embeddings", "pos", "position", "positions", "positional",
}  # fmt: skip
LAST_WORDS = {"token", "tokens"}


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Split the trainable parameters of a module into embeddings and all others.

    Embeddings are the tables of ``nn.Embedding`` and ``nn.EmbeddingBag``, and parameters that a
    module holds directly under a name like ``positions``, ``pos_embed`` or ``cls_token``.

    Args:
        module: With or without embeddings.

    Returns:
        One or two groups with named parameters, as PyTorch's optimizers accept them.

    Raises:
        ValueError: No parameter requires a gradient.
    """
    tables = {
        id(part.weight)
        for part in module.modules()
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
    }
    groups: dict[bool, list[tuple[str, Tensor]]] = {False: [], True: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            embedding = id(parameter) in tables or _names_an_embedding(name.rpartition(".")[2])
            groups[embedding].append((name, parameter))
    if not any(groups.values()):
        raise ValueError(f"{type(module).__name__} has no parameters that require a gradient")
    return [
        {"params": named, "embedding": embedding} for embedding, named in groups.items() if named
    ]


def _names_an_embedding(name: str) -> bool:
    words = name.lower().split("_")
    return bool(EMBEDDING_WORDS & set(words)) or words[-1] in LAST_WORDS
