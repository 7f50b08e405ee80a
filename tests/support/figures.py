"""Tasks whose figures the tests look at."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from metahpo import Space, Task, Trial

SPACE = Space({"x": FloatDistribution(1e-4, 1.0, log=True), "c": CategoricalDistribution(["a"])})
# Twelve tasks with two meta-features, the best x at 10 ** (-number / 3).
TASKS = [
    Task(
        f"t{number}",
        SPACE,
        tuple(Trial({"x": 10.0**-i, "c": "a"}, -abs(i - number / 3)) for i in range(5)),
        {"a": float(number), "b": float(number % 4)},
    )
    for number in range(12)
]
