"""What both models of scores have in common as BoTorch models: one output, one study."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from botorch.models.model import Model
from botorch.posteriors.posterior import Posterior
from torch import Tensor


class ScoreModel(Model):
    """A BoTorch model of one study's scores, which BoTorch's acquisition functions accept."""

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """No batch of models."""
        return torch.Size([])

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:
        """The posterior over scores.

        Args:
            X: ``batch_shape x q x d`` inputs of the model.
            output_indices: There is one output: None or [0].
            observation_noise: Whether to add the noise variance, or a variance to add.
            posterior_transform: Applied to the result, if given.

        Returns:
            A posterior of ``batch_shape x q x 1``.
        """
        posterior = self._posterior(X, observation_noise)
        return posterior_transform(posterior) if posterior_transform else posterior

    @abstractmethod
    def _posterior(self, X: Tensor, observation_noise: bool | Tensor) -> Posterior:
        """The posterior before any transform; arguments are those of ``posterior``."""
