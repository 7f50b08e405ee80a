"""The shipped optimizer in plain form, to read. ``LearnedOptimizer`` is the one to use.

``reference_step`` changes one tensor as ``LearnedOptimizer(..., num_steps)`` does with the shipped
weights when ``step`` gets no closure and training does not diverge. The fast version adds batches
of equal tensors, bfloat16 for large matrices, the loss as an input of the schedule, and the guard.

1. Running means of the gradient and of its square, as in Adam (without bias correction, which the
   normalisation below would cancel).
2. A direction of mean square 1. Matrices: gradient and momentum are mixed and made orthogonal, as
   in Muon (Jordan et al. 2024). Vectors, scalars and embeddings: Adam, normalised over the tensor.
3. A relative step size: a hand-made peak for each kind of tensor, shorter for longer trainings,
   with warm-up and decay, times what a small network learned about progress and ``num_steps``.
4. Decoupled weight decay, in proportion to the relative step size.
"""

import torch
from torch import Tensor

from metahpo.optim.weights import shipped_weights

MATRIX, VECTOR, EMBEDDING = 0, 1, 2


@torch.no_grad()
def reference_step(
    parameter: Tensor, gradient: Tensor, momentum: Tensor, second_moment: Tensor,
    step: int, num_steps: int, weight_decay: float = 0.0, embedding: bool = False,
) -> None:  # fmt: skip
    """Take step number ``step`` (from 0); change the parameter and both moments in place."""
    momentum.mul_(0.9).add_(0.1 * gradient)
    second_moment.mul_(0.98).add_(0.02 * gradient**2)
    rows = parameter.shape[0] if parameter.ndim > 1 else 1  # a convolution: output channels
    columns = parameter.numel() // rows  # the fan-in
    if embedding or min(rows, columns) == 1:
        kind, layer_scale = EMBEDDING if embedding else VECTOR, 1.0
        relative = second_moment / (second_moment.mean() + 1e-30)
        direction = normalise(momentum / (relative + 1e-6).sqrt())
    else:
        kind, layer_scale = MATRIX, columns**-0.5 * min(1.0, rows / columns) ** 0.25
        mixed = 0.5 * normalise(gradient) + normalise(momentum)
        direction = orthogonalise(mixed.reshape(rows, columns)).view_as(parameter)
    size = relative_step_size(kind, step, num_steps)
    parameter -= size * (layer_scale * direction + weight_decay * parameter)


def normalise(tensor: Tensor) -> Tensor:
    """Scale a tensor to mean square 1."""
    return tensor / (tensor.square().mean() + 1e-30).sqrt()


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, about, of mean square 1; tall ones square by square."""
    rows, columns = matrix.shape
    if rows > columns and rows % columns == 0:
        return torch.cat([orthogonalise(square) for square in matrix.split(columns)])
    x = matrix.T if rows > columns else matrix
    x = x / (x.norm() + 1e-15)
    for _ in range(5):  # Newton-Schulz: singular values end between about 0.7 and 1.2
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return max(rows, columns) ** 0.5 * (x.T if rows > columns else x)


def relative_step_size(kind: int, step: int, num_steps: int) -> float:
    """The learned schedule, when no loss is given to it."""
    weights, progress = shipped_weights(), min(1.0, step / num_steps)
    warmup, floor, power = weights["schedule.log_shape"].exp()
    rising = ((progress + 1e-3) / warmup).clamp(max=1)
    falling = floor + (1 - floor) * (1 - progress) ** power
    horizon = torch.tensor([num_steps / 1000]).log() / 4
    inputs = [(9 * (progress - torch.linspace(0, 1, 9))).tanh(), horizon, torch.zeros(2)]
    hidden = weights["schedule.first.weight"] @ torch.cat(inputs) + weights["schedule.first.bias"]
    hidden = hidden.relu()
    learned = 2 * (weights["schedule.last.weight"] @ hidden + weights["schedule.last.bias"]).tanh()
    shrink = (max(num_steps, 30) / 1000) ** -weights["step.horizon_power"]
    return (rising * falling * shrink * (weights["step.log_size"] + learned)[kind].exp()).item()
