"""What a surrogate owes the policy, and what a family of surrogates owes the registry.

The policy, the acquisition function and the mixture know surrogates by these two protocols alone.
docs/extending.md adds one as an example; tests/surrogate/test_contract.py holds every registered
family to them.

Notation (see also ``metahpo.tasks.space``): t past tasks; values are maximised.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from metahpo.settings import Effort, PolicySettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import Array, Space


class Improvement(NamedTuple):
    """What a point may gain over the best trial so far.

    Attributes:
        log_expected: ``batch_shape``, logarithm of the expected improvement, in values.
        probability: ``batch_shape``, probability of any improvement; needs no gradient.
    """

    log_expected: Tensor
    probability: Tensor


class Surrogate(Protocol):
    """A model of one study, fitted to its trials and possibly to past tasks."""

    @property
    def effort(self) -> Effort:
        """How hard its acquisition function is worth maximising."""
        ...

    @property
    def log_densities(self) -> Array:
        """``n``: log predictive density of each observed value given the ones before it.

        NaN where it is not known, which counts as no evidence.
        """
        ...

    @property
    def task_weights(self) -> Array:
        """``t``: how much each past task counts in the predictions; empty where none does."""
        ...

    @property
    def trust(self) -> float | None:
        """Weight of what it was informed of besides the study's own trials, in [0, 1].

        That is past tasks, or what a network was meta-trained on; None where there is neither. The
        policy reports it for studies with a history, as the trust in that.
        """
        ...

    def predict(self, points: Array) -> tuple[Array, Array] | None:
        """Mean and standard deviation of the values at ``n x d`` points, ``n`` each.

        None where the model cannot tell in which unit the values are.
        """
        ...

    def improvement(self, points: Tensor) -> Improvement:
        """What ``batch_shape x d`` points may gain, differentiable in numerical hyperparameters.

        A surrogate without gradients returns tensors without a graph, and is searched by samples
        and single changes alone. Pending trials count among what is to be improved on.
        """
        ...

    def condition_on_pending(self, points: Array) -> Surrogate:
        """The surrogate with ``m x d`` pending trials at their predicted means.

        The kriging believer (Ginsbourger et al. 2010): means stay, uncertainty shrinks, so that
        the same points are not suggested again.
        """
        ...

    def relative_to(self, points: Array) -> Surrogate:
        """The surrogate whose improvements are over the best predicted mean at ``m x d`` points.

        Where some hyperparameters are fixed, the best trial may be out of reach, and what may
        improve on it is what is least known. m is at least 1.
        """
        ...


class SurrogateFamily(Protocol):
    """Fits surrogates: one object for all studies, without state but caches."""

    def is_informed(self, space: Space, settings: PolicySettings) -> bool:
        """Whether it predicts better than chance before a study in this space has any trial."""
        ...

    def fit(
        self, study: StudyArrays, history: AlignedHistory, settings: PolicySettings
    ) -> Surrogate:
        """The surrogate of a study.

        Args:
            study: The study; without trials only where the family is informed.
            history: Past tasks, if there are any; keeps what the family makes of them
                (``AlignedHistory.remember``).
            settings: The policy's settings; ``settings.transfer`` says whether to read the past
                tasks.

        Raises:
            ArithmeticError, RuntimeError, ValueError: The data cannot be fitted; the plug-ins
                fall back on random configurations.
        """
        ...
