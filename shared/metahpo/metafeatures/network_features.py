"""Meta-features of a network: its size, its layers by family, its FLOPs.

The network is neither trained nor changed. If an example is given, one forward pass runs in
evaluation mode; training modes and the random state are restored afterwards.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_TRANSFORMER_LAYERS = {nn.TransformerEncoderLayer: 2, nn.TransformerDecoderLayer: 3}
# Attention and graph layers written by users are recognised by the names of their classes.
_ATTENTION_NAME = re.compile(r"attention|attn", re.IGNORECASE)
_GRAPH_NAME = re.compile(
    r"^(GCN|GAT|SAGE|GIN|Cheb|EdgeConv|MessagePassing)|^Graph\w*(Conv|Layer|Attention|Block)"
)
_GRAPH_LIBRARIES = ("torch_geometric.nn.conv", "dgl.nn")
_NORM_NAME = re.compile(r"(Batch|Layer|RMS|Group|Instance)Norm")

# Families of layers that are counted.
COUNTED = (
    "linear",
    "convolution",
    "attention",
    "recurrent",
    "graph",
    "normalisation",
    "dropout",
    "embedding",
)
# Families whose layers count towards the depth.
_WEIGHTED = ("linear", "convolution", "attention", "recurrent", "graph")
# Architecture families and the layers that define them; the first that matches counts.
FAMILIES = {
    "gnn": "graph",
    "transformer": "attention",
    "rnn": "recurrent",
    "cnn": "convolution",
    "mlp": "linear",
}
_ADDITIONS = {operator.add, operator.iadd, torch.add, Tensor.add, Tensor.add_}
_ADDING_METHODS = {"add", "add_"}


def network_metafeatures(model: nn.Module | None, example: Any = None) -> dict[str, float]:
    """Return the meta-features of a network.

    Args:
        model: Any module; None gives NaN under all names.
        example: Input of a forward pass, batch dimension first: a tensor, a tuple of arguments
            or a mapping of keyword arguments. Without it, or if the forward pass raises, the
            FLOPs are NaN.

    Returns:
        Numbers by name; the names are always the same: parameters, depth, widths, layers by
        family, residual connections, FLOPs of one example (a multiplication and an addition
        count as two), and 1 for the architecture family of the network, 0 for the others.

    Raises:
        TypeError: If ``model`` is not a module.
    """
    if model is None:
        return dict.fromkeys(network_metafeatures(nn.Module()), math.nan)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    families = [(module, _family(module)) for module in model.modules()]
    counts = {name: float(sum(f == name for _, f in families)) for name in COUNTED}
    widths = [width for module, _ in families if (width := _width(module))]
    flops, additions = _observe(model, example)
    architecture = next((name for name, layers in FAMILIES.items() if counts[layers]), None)
    features = {
        **_parameters(model),
        "depth": sum(_depth(module, family) for module, family in families),
        "width_mean": sum(widths) / len(widths) if widths else math.nan,
        "width_min": float(min(widths, default=math.nan)),
        "width_max": float(max(widths, default=math.nan)),
        **{f"{name}_layers": count for name, count in counts.items()},
        "dropout_rate": _dropout_rate(model),
        "residual_connections": additions,
        "flops": flops,
        **{f"is_{name}": float(name == architecture) for name in FAMILIES},
    }
    return {f"network.{name}": float(value) for name, value in features.items()}


def _parameters(model: nn.Module) -> dict[str, float]:
    parameters = list(model.parameters())
    if any(isinstance(p, UninitializedParameter) for p in parameters):
        # Lazy modules have no shapes before their first forward pass.
        return {"parameters": math.nan, "trainable_share": math.nan}
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return {
        "parameters": float(total),
        "trainable_share": trainable / total if total else math.nan,
    }


def _family(module: nn.Module) -> str:
    """One of ``COUNTED``; an empty string for containers, activations and the like."""
    kind = type(module)
    if _GRAPH_NAME.search(kind.__name__) or kind.__module__.startswith(_GRAPH_LIBRARIES):
        return "graph"
    for types, family in (
        (nn.MultiheadAttention, "attention"),
        (_ConvNd, "convolution"),
        (_RECURRENT, "recurrent"),
        (_NORMS, "normalisation"),
        ((_DropoutNd,), "dropout"),
        (_EMBEDDINGS, "embedding"),
        ((nn.Linear, nn.Bilinear), "linear"),
    ):
        if isinstance(module, types):
            return family
    inner = (type(child).__name__ for child in list(module.modules())[1:])
    if _ATTENTION_NAME.search(kind.__name__) and not any(map(_ATTENTION_NAME.search, inner)):
        return "attention"
    return "normalisation" if _NORM_NAME.search(kind.__name__) else ""


def _depth(module: nn.Module, family: str) -> int:
    """Number of layers with weights that a module counts for."""
    if isinstance(module, nn.RNNBase):
        return module.num_layers
    # Layers written by users contain linear ones, which are counted themselves.
    is_leaf = not any(True for _ in module.children())
    is_single = is_leaf or isinstance(module, nn.MultiheadAttention)
    return int(is_single and family in _WEIGHTED)


def _width(module: nn.Module) -> int:
    for name in ("out_features", "out_channels", "hidden_size", "embed_dim", "embedding_dim"):
        width = getattr(module, name, None)
        if isinstance(width, int):
            return width
    return 0


def _dropout_rate(model: nn.Module) -> float:
    rates = [float(m.p) for m in model.modules() if isinstance(m, _DropoutNd)]
    return sum(rates) / len(rates) if rates else 0.0


# ---- the forward pass ----------------------------------------------------------------------


class _Additions(TorchFunctionMode):
    """Counts additions of two activations of equal shape, as in residual connections."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.count = 0
        self._weights = {id(parameter) for parameter in model.parameters()}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("add", "add_", "__add__", "__iadd__", "__radd__") and len(args) >= 2:
            a, b = args[:2]
            both = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
            self.count += bool(
                both and a.is_floating_point() and not {id(a), id(b)} & self._weights
            )
        return func(*args, **(kwargs or {}))


def _observe(model: nn.Module, example: Any) -> tuple[float, float]:
    """FLOPs of one example and number of residual connections; NaN if unknown."""
    if example is None:
        return math.nan, _traced_additions(model)
    arguments = example if isinstance(example, tuple) else (example,)
    keywords: Mapping[str, Any] = {}
    if isinstance(example, Mapping):
        arguments, keywords = (), example
    additions = _Additions(model)
    counter = FlopCounterMode(display=False)
    try:
        # Warnings come from hardware-specific switches and from the user's code.
        with warnings.catch_warnings(action="ignore"), _evaluation_mode(model), additions, counter:
            model(*arguments, **keywords)
    # The user's code may raise anything on an example that does not fit.
    except Exception:
        return math.nan, _traced_additions(model)
    batch = next((len(a) for a in (*arguments, *keywords.values()) if _has_rows(a)), 1)
    return counter.get_total_flops() / batch, float(additions.count)


def _has_rows(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.ndim > 0 and len(argument) > 0


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and without fused kernels, which are not counted."""
    training = [module for module in model.modules() if module.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model.eval()
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            torch.backends.mkldnn.flags(enabled=False),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module in training:
            module.training = True


def _traced_additions(model: nn.Module) -> float:
    """Number of residual connections by symbolic tracing; NaN if tracing fails."""
    try:
        with warnings.catch_warnings(action="ignore"):
            # Inside a container, torch's own modules are leaves and are not traced.
            nodes = list(fx.Tracer().trace(nn.Sequential(model)).nodes)
    # Tracing runs the user's code on proxies, which may raise anything.
    except Exception:
        return math.nan
    traced = sum(_is_addition(node) and _adds_activations(node) for node in nodes)
    called = [
        nn.Sequential(model).get_submodule(str(n.target)) for n in nodes if n.op == "call_module"
    ]
    inside = sum(
        count
        for module in called
        for layer in module.modules()
        for kind, count in _TRANSFORMER_LAYERS.items()
        if isinstance(layer, kind)
    )
    return float(traced + inside)


def _is_addition(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _ADDING_METHODS
    return node.op == "call_function" and node.target in _ADDITIONS


def _adds_activations(node: fx.Node) -> bool:
    """Whether both operands are activations, not parameters."""
    operands = [a for a in node.args if isinstance(a, fx.Node) and a.op != "get_attr"]
    return len(operands) == 2
