"""A past task seen from another task's search space.

Spaces overlap but differ: other bounds, linear against logarithmic, hyperparameters added,
removed or renamed, other choices. Hyperparameters are matched by name, then by well-known
synonyms; values are carried over on their natural scale; what has no counterpart is inactive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from metahpo.tasks.distributions import is_number
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task
from metahpo.tasks.units import in_safe_unit

# Names that mean the same in the field, spelt as `_canonical` leaves them. A name alone in its
# line is one that a pretrained surrogate was trained on. New lines go to the end: its weights
# count them.
SYNONYMS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"lr", "learningrate", "eta", "stepsize", "lrinit", "learningrateinit"},
            {"weightdecay", "wd", "l2", "l2penalty", "l2reg"},
            {"batchsize", "bs", "minibatchsize", "batch"},
            {"dropout", "dropoutrate", "dropoutprob", "pdrop", "droprate", "maxdropout"},
            {"numlayers", "nlayers", "layers", "numhiddenlayers", "nhiddenlayers"},
            {
                "width", "hiddensize", "hiddendim", "hiddenunits", "nunits", "numunits", "units",
                "maxunits", "nhidden",
            },
            {"optimizer", "optimiser", "optim", "opt", "solver"},
            {"activation", "act", "nonlinearity", "activationfunction"},
            {"epochs", "nepochs", "numepochs", "maxepochs"},
            {
                "nestimators", "nrounds", "numboostround", "numtrees", "ntrees", "ntree",
                "iterations", "numiterations",
            },
            {"maxdepth", "depth"},
            {"subsample", "baggingfraction", "samplefraction", "rowsample"},
            {"colsamplebytree", "featurefraction", "rsm"},
            {"minchildweight", "minsumhessianinleaf"},
            {"minsamplesleaf", "minbucket", "mindatainleaf", "minnodesize", "minchildsamples"},
            {"minsamplessplit", "minsplit"},
            {"lambda", "reglambda", "lambdal2", "l2leafreg"},
            {"alpha", "regalpha", "lambdal1"},
            {"gamma", "minsplitloss", "mingaintosplit"},
            {"momentum", "beta1"},
            {"beta2"},
            {"epsilon", "eps"},
            {"warmup", "warmupsteps", "warmupratio", "warmupepochs"},
            {"scheduler", "lrscheduler", "schedule"},
            {"labelsmoothing"},
            {"gradclip", "clipnorm", "maxgradnorm", "gradientclipping"},
            {"channels", "nchannels", "numfilters", "nfilters", "filters"},
            {"kernelsize", "filtersize"},
            {"nheads", "numheads", "numattentionheads"},
            {"embeddim", "embeddingdim", "embeddingsize", "dmodel"},
            {"colsamplebylevel"},
            {"booster", "boostingtype"},
            {"ratedrop"},
            {"skipdrop"},
            {"numleaves", "maxleaves", "maxleafnodes"},
            {"maxbin", "maxbins"},
            {"cp", "ccpalpha"},
            {"mtry", "maxfeatures"},
            {"splitrule", "criterion"},
            {"numrandomsplits"},
            {"c", "cost"},
            {"kernel"},
            {"degree"},
            {"tol", "tolerance"},
            {"l1ratio"},
        ),
    )
)  # fmt: skip

# How far outside the present bounds a past value may lie, in ranges; further out it is put there.
OUTSIDE = 0.5
# Trials of a past task that models read: more cost time and move them little.
MOST_TRIALS = 100


@dataclass(frozen=True, eq=False)
class AlignedTask:
    """The observed trials of a past task as points of another space.

    Attributes:
        name: The past task's name.
        points: ``n x d`` in the present space, NaN where inactive or without a counterpart.
        values: ``n``, larger is better, in a unit that is safe for arithmetic
            (``metahpo.tasks.units``).
        shared: ``d``, whether the past task has the hyperparameter.
        overlap: Share of the hyperparameters, of both spaces together, that match.
    """

    name: str
    points: Array
    values: Array
    shared: NDArray[np.bool_]
    overlap: float


def thinned(task: AlignedTask, rng: np.random.Generator) -> AlignedTask:
    """At most ``MOST_TRIALS`` trials: half of them the best, the others a sample of the rest."""
    if len(task.values) <= MOST_TRIALS:
        return task
    order = np.argsort(-task.values, kind="stable")
    half = MOST_TRIALS // 2
    others = rng.choice(order[half:], MOST_TRIALS - half, replace=False)
    rows = np.sort(np.concatenate([order[:half], others]))
    return replace(task, points=task.points[rows], values=task.values[rows])


def match_names(past: Space, present: Space) -> dict[str, str]:
    """Which hyperparameter of a past space is which of the present one.

    The same name wins over the same word spelt otherwise, and that over a synonym; a
    hyperparameter is matched once at most, and only with one whose values it can carry (a text
    choice has no place among numbers).

    Returns:
        Present names by past name.
    """
    matches = {
        name: name for name in past if name in present and _compatible(name, name, past, present)
    }
    for key in (_canonical, role_of):
        matches |= _matched_by(key, matches, past, present)
    return matches


def _matched_by(
    key: Callable[[str], Hashable], matched: Mapping[str, str], past: Space, present: Space
) -> dict[str, str]:
    """Further matches of names with the same key, in the order of the names.

    Args:
        key: Of a name; 0 and the empty string match nothing.
        matched: The matches so far.
        past: The past space.
        present: The present space.
    """
    taken = set(matched.values())
    free: dict[Hashable, list[str]] = {}
    for name in present:
        if name not in taken and key(name):
            free.setdefault(key(name), []).append(name)
    found: dict[str, str] = {}
    for name in past:
        if name in matched:
            continue
        others = free.get(key(name), [])
        other = next((o for o in others if _compatible(name, o, past, present)), None)
        if other is not None:
            found[name] = other
            others.remove(other)
    return found


def role_of(name: str) -> int:
    """What a hyperparameter is, by its name: the index of its line in ``SYNONYMS``, from 1.

    Returns:
        0 for a name that is not well known.
    """
    return _ROLES.get(_canonical(name), 0)


def identity_of(name: str) -> str:
    """A text that a hyperparameter has in common with those that ``match_names`` takes for it.

    Returns:
        The first of its synonyms in alphabetical order, or its own name in canonical spelling; the
        name as it is where nothing is left of that (no Latin letter, no digit).
    """
    role = role_of(name)
    return min(SYNONYMS[role - 1]) if role else _canonical(name) or name


def align(task: Task, space: Space) -> AlignedTask | None:
    """A past task as the present space sees it.

    Args:
        task: The past task.
        space: The present space, with its conditions.

    Returns:
        The aligned task; None where nothing was observed or nothing overlaps.
    """
    observed = task.observed
    matches = match_names(task.space, space)
    if not observed or not matches:
        return None
    renamed = [_rename(trial.configuration, matches) for trial in observed]
    points = np.clip(space.encode(renamed), -OUTSIDE, 1.0 + OUTSIDE)
    shared = np.asarray(~np.isnan(points).all(axis=0))
    if not shared.any():
        return None
    union = len(task.space) + len(space) - len(matches)
    values, _ = in_safe_unit(task.values)
    return AlignedTask(task.name, points, values, shared, float(shared.sum()) / union)


def _rename(configuration: Mapping[str, object], matches: Mapping[str, str]) -> dict[str, object]:
    return {matches[n]: value for n, value in configuration.items() if n in matches}


def _compatible(past_name: str, present_name: str, past: Space, present: Space) -> bool:
    """Whether some value of the past hyperparameter has a place in the present one."""
    ours = present.distributions[present_name]
    theirs = past.distributions[past_name]
    if isinstance(theirs, CategoricalDistribution):
        values = list(theirs.choices)
    elif isinstance(ours, CategoricalDistribution):
        values = list(ours.choices)
    else:
        return True
    if isinstance(ours, CategoricalDistribution) != isinstance(theirs, CategoricalDistribution):
        # Between choices and a range only numbers pass; a switch is none.
        values = [v for v in values if is_number(v)]
    if not values:
        return False
    one = Space({present_name: ours})
    return bool((~np.isnan(one.encode([{present_name: value} for value in values]))).any())


_ROLES = {name: role for role, group in enumerate(SYNONYMS, 1) for name in group}


@lru_cache(maxsize=65536)
def _canonical(name: str) -> str:
    """The last part of a path, in lower case, letters and digits only: `optim/LR` -> `lr`."""
    last = re.split(r"[/.:]", name)[-1] if not _is_dotted_word(name) else name
    return re.sub(r"[^a-z0-9]", "", last.lower())


def _is_dotted_word(name: str) -> bool:
    """R's style, `num.trees`: the dots join the words of one name."""
    return "/" not in name and ":" not in name and re.sub(r"[^a-z0-9]", "", name.lower()) in _ROLES
