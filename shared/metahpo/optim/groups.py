"""What a module tells of its parameters that their shapes do not: which are embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# Words in the names of parameters that are neither a module's weight nor its bias, and last words.
TABLES = {"embed", "embedding", "embeddings", "pos", "position", "positions", "positional"}
TOKENS = {"token", "tokens"}


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """The parameters that are trained, as one group, and embeddings as another.

    Embeddings are the tables of ``nn.Embedding`` and ``nn.EmbeddingBag``, and what a module holds
    as a parameter of its own under a name like ``positions``, ``pos_embed`` or ``cls_token``.

    Args:
        module: With or without embeddings.

    Returns:
        One or two groups with names, as PyTorch's optimizers take them.

    Raises:
        ValueError: No parameter is to be trained.
    """
    tables = {
        id(part.weight)
        for part in module.modules()
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
    }
    groups: dict[bool, list[tuple[str, Tensor]]] = {False: [], True: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            embedding = id(parameter) in tables or _names_a_table(name.rpartition(".")[2])
            groups[embedding].append((name, parameter))
    if not any(groups.values()):
        raise ValueError(f"{type(module).__name__} has no parameters that require a gradient")
    return [
        {"params": named, "embedding": embedding} for embedding, named in groups.items() if named
    ]


def _names_a_table(name: str) -> bool:
    words = name.lower().split("_")
    return bool(TABLES & set(words)) or words[-1] in TOKENS
