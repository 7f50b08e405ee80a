"""Tuning that remembers, in Ray Tune: a search algorithm that learns from past experiments.

Public: ``MetaSearch``, which imports Ray when it is first used, and ``read_experiment``, which
does without. Inside: ``search`` is the shell around the policy, ``ledger`` the trials so far,
``nested_space``, ``domains`` and ``plain`` the search spaces, ``experiment`` reads folders (a
registered reader). Where Ray changes, touch ``_ray`` (private interfaces) and ``folders`` (what it
writes).
"""

from typing import TYPE_CHECKING, Any

from raytune_meta.experiment import read_experiment

if TYPE_CHECKING:
    from raytune_meta.search import MetaSearch

__all__ = ["MetaSearch", "read_experiment"]


def __getattr__(name: str) -> Any:
    if name != "MetaSearch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"MetaSearch needs Ray Tune: pip install 'metahpo[ray]' ({error})"
        ) from error
    from raytune_meta.search import MetaSearch

    return MetaSearch
