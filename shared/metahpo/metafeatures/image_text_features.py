"""Features of images and of token sequences."""

from __future__ import annotations

import math

import numpy as np

from metahpo.metafeatures.column_statistics import moments
from metahpo.metafeatures.sample import Sample
from metahpo.metafeatures.summaries import entropy, mean, ratio, summary


def image_features(sample: Sample) -> dict[str, float]:
    """Resolution, and the distribution of intensity over pixels and of brightness over images."""
    channels, height, width = sample.image or (math.nan, math.nan, math.nan)
    pixels = sample.X if sample.image is not None else np.empty((0, 0))
    known = pixels[~np.isnan(pixels)][:, None]
    brightness = np.nanmean(pixels, axis=1) if pixels.size else np.empty(0)
    skewness, kurtosis = moments(known)
    deviation = float(known.std()) if len(known) else math.nan
    return {
        "image_channels": channels,
        "image_height": height,
        "image_width": width,
        "intensity_mean": mean(known),
        "intensity_deviation": deviation,
        "intensity_skewness": mean(skewness),
        "intensity_kurtosis": mean(kurtosis),
        "brightness_spread": ratio(brightness.std(), deviation) if len(brightness) else math.nan,
    }


def sequence_features(sample: Sample) -> dict[str, float]:
    """Lengths of the sequences, size of the vocabulary, and the distribution of tokens."""
    lengths = np.array([len(sequence) for sequence in sample.sequences], float)
    tokens = np.concatenate(sample.sequences) if sample.sequences else np.empty(0, int)
    counts = np.unique(tokens, return_counts=True)[1]
    return {
        **summary("length", lengths),
        "vocabulary": float(len(counts)) if len(counts) else math.nan,
        "token_entropy": entropy(counts) if len(counts) else math.nan,
        "tokens_seen_once": mean(counts == 1),
    }
