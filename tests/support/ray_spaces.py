"""Search spaces of Ray's, drawn at random: every kind of domain, constant and container."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune

# What people have at hand where a number is wanted.
INTEGERS = (int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.array)
FLOATS = (float, np.float16, np.float32, np.float64, np.longdouble, Decimal, Fraction, np.array)

scalars = st.sampled_from(
    [None, True, 0, -7, 2.5, float("inf"), "", "a", np.int64(3), np.float32(0.1), np.bool_(False),
     np.float16(2), np.str_("b"), np.array(4.0)]
)  # fmt: skip
keys = st.one_of(st.text("abc", min_size=1, max_size=2), st.integers(0, 3))


def constants(depth: int = 2) -> st.SearchStrategy:
    """Scalars, and lists, tuples and dictionaries of them."""
    if not depth:
        return scalars
    inner = constants(depth - 1)
    return st.one_of(
        scalars,
        st.lists(inner, max_size=2),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=2),
    )


@st.composite
def domains(draw, depth: int = 1):
    """One of Ray's domains or of Optuna's distributions, with numbers of any type."""
    number, whole = draw(st.sampled_from(FLOATS)), draw(st.sampled_from(INTEGERS))
    low, high, step = number("0.5" if number is not np.array else 0.5), number(8), number(0.5)
    numerical = [
        lambda: tune.uniform(low, high),
        lambda: tune.loguniform(low, high),
        lambda: tune.quniform(low, high, step),
        lambda: tune.qloguniform(low, high, step),
        lambda: tune.randn(low, high),
        lambda: tune.qrandn(low, high, step),
        lambda: tune.randint(whole(1), whole(100)),
        lambda: tune.lograndint(whole(1), whole(100)),
        lambda: tune.qrandint(whole(2), whole(100), whole(2)),
        lambda: tune.qlograndint(whole(2), whole(100), whole(2)),
        lambda: FloatDistribution(low, high, log=True),
        lambda: FloatDistribution(0.0, 1.0, step=0.25),
        lambda: IntDistribution(whole(1), whole(9), step=2),
    ]
    kind = draw(st.integers(0, len(numerical) + 2))
    if kind < len(numerical):
        return numerical[kind]()
    if kind == len(numerical):
        return CategoricalDistribution([np.int64(1), "a", None][: draw(st.integers(1, 3))])
    if kind == len(numerical) + 1 or not depth:
        return tune.choice(draw(st.lists(constants(1), min_size=1, max_size=3)))
    trees = st.one_of(spaces(depth - 1), constants(1))
    return tune.choice(draw(st.lists(trees, min_size=1, max_size=3)))


def spaces(depth: int = 2) -> st.SearchStrategy:
    """Nested dictionaries of domains, constants, lists and tuples, with a domain at least."""
    parts = [constants(1), domains(min(depth, 1))]
    if depth:
        inner = spaces(depth - 1)
        parts += [inner, st.lists(inner, max_size=2), st.tuples(domains(0), scalars)]
    trees = st.dictionaries(keys, st.one_of(parts), max_size=3)
    return st.builds(lambda tree, domain: {**tree, "x": domain}, trees, domains(min(depth, 1)))
