"""What the sweeps of the tests train: a module of its own, which workers import quickly."""

import math

from ray import tune


def train(config):
    assert config["k"] == 3
    for step in range(1, 5):
        tune.report({"loss": (config["m"]["x"] - 2) ** 2 + 1 / step})


def fail_below_zero(config):
    if config["m"]["x"] < 0:
        raise RuntimeError("below zero")
    train(config)


def report_anything(config):
    value = [math.nan, math.inf, None, -math.inf, 1.0, 2.0][int(config["i"])]
    tune.report({"other": 1} if config["i"] == 4 else {"loss": value, "other": 1})


def report_nested(config):
    if config["x"] > 0.9:
        raise RuntimeError("too large")
    for step in range(1, 5):
        loss = (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2
        tune.report({"eval": {"loss": loss + 1 / step}})
