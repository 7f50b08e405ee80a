"""Choices that users have passed to hosts: whatever can be an object."""

import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st


@dataclass
class Layer:
    """Compares by its content and has no hash."""

    width: int


Pair = namedtuple("Pair", ["first", "second"])


def relu(x):
    return max(x, 0)


class Tanh:
    """A class as a choice, and an object without a text of its own."""


NAN = float("nan")
FIXED = (
    None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, 0.5, NAN, np.float64("nan"), np.float32("nan"),
    math.inf, "", "1", "True", "nan", "a", "A", b"a", 1 + 2j,
    np.int64(1), np.float32(0.5), np.float64(1.0), np.bool_(True), np.str_("a"),
    relu, math.sqrt, Tanh, Tanh(), len, int, Layer(1), Layer(2), Pair(1, [2]), range(3), ...,
)  # fmt: skip

# Any of these, and lists, tuples, sets and dictionaries of them.
choices = st.recursive(
    st.sampled_from(FIXED) | st.integers(-2, 2) | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", 1, (1, 2)]), inner, max_size=2)
        | st.frozensets(st.integers(0, 2), max_size=2)
        | st.sets(st.integers(0, 2), max_size=2)
    ),
    max_leaves=3,
)
