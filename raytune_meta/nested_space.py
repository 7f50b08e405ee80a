"""Ray Tune's search spaces, which are trees, as flat ones.

A search space of Ray's is a tree of dictionaries and lists whose leaves are constants and domains.
Here it becomes a ``Space`` with flat names (``model/lr``, as in Ray's own results and in its
experiments' folders) and configurations become trees again.

A choice among dictionaries that hold domains, ``tune.choice([{"kind": "svm", "C": ...}, ...])``,
is a categorical hyperparameter, and the hyperparameters in a dictionary are active while that
dictionary is chosen. If a constant distinguishes the dictionaries (``kind``), it names the choice,
as it does in the folders of past experiments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metahpo.tasks.space import Configuration, Space
from raytune_meta.domains import rounded
from raytune_meta.plain import plain_tree
from raytune_meta.space_nodes import MISSING, Branch, CollectedNodes
from raytune_meta.space_values import overlaid, resolved, values_in
from raytune_meta.trees import nested


class SearchSpace:
    """A search space of Ray's.

    Args:
        tree: What ``param_space`` holds once Ray has taken functions and objects out of it.
            Optuna's distributions may stand for domains.

    Raises:
        ValueError: For a grid search, for a domain that no distribution describes, and for a key
            with ``/`` above a domain.
    """

    def __init__(self, tree: Mapping[str, Any]) -> None:
        found = CollectedNodes()
        self.tree: dict[str, Any] = plain_tree(tree)
        children = {key: found.node(v, (key,), None) for key, v in self.tree.items()}
        self._root = Branch(dict, children)
        found.check_keys(self._root, ())
        self._quanta = found.quanta
        self.space = Space(found.distributions, found.conditions)

    def finished(self, configuration: Configuration) -> dict[str, Any]:
        """Return the configuration, rounded where distributions cannot express the steps."""
        return {
            name: rounded(value, self._quanta[name], self.space.distributions[name])
            if name in self._quanta
            else value
            for name, value in configuration.items()
        }

    def resolve(self, configuration: Configuration, *, constants: bool) -> dict[str, Any]:
        """Return the tree for a configuration.

        Args:
            configuration: A configuration with all active hyperparameters.
            constants: Whether to include constants beside the domains. Those within lists and
                within chosen dictionaries always are.
        """
        return resolved(self._root, configuration, constants)

    def read(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration in a tree, or in a flat ``{"model/lr": ...}``.

        Hyperparameters that it lacks are left out, and so is what is not in the space, such as
        an object in place of a number.
        """
        found = values_in(self._root, nested(tree))
        return {name: value for _, name, value in found if value is not MISSING}

    def unreadable(self, tree: Mapping[str, Any]) -> list[str]:
        """Return where a tree, nested or flat, has what is no value of the space's."""
        found = values_in(self._root, nested(tree))
        return [path for path, _, value in found if value is MISSING]

    def overlaid(self, resolved: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return a resolved configuration with all that a nested tree says besides.

        Values of hyperparameters become Python's own; what is unreadable is left out, so that
        ``read`` returns of the result what it returns of the tree.
        """
        return overlaid(self._root, resolved, tree)
