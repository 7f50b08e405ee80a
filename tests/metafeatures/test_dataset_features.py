"""Meta-features of data sets: pymfe's values, degenerate data, every kind of container."""

import math
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from metahpo.metafeatures import dataset_metafeatures, extract

# Our names and pymfe's.
SAME_AS_PYMFE = {
    "rows": "nr_inst",
    "columns": "nr_attr",
    "classes": "nr_class",
    "rows_per_column": "inst_to_attr",
    "columns_per_row": "attr_to_inst",
    "categorical_columns": "nr_cat",
    "numeric_columns": "nr_num",
    "class_share_mean": "freq_class.mean",
    "class_share_sd": "freq_class.sd",
    "class_share_min": "freq_class.min",
    "class_share_max": "freq_class.max",
    "class_imbalance": "c2",
    "class_entropy": "class_ent",
    "correlated_share": "nr_cor_attr",
    "pca_dimensions_share": "t4",
    "equivalent_columns": "eq_num_attr",
    "noise_ratio": "ns_ratio",
} | {
    f"{ours}_{part}": f"{theirs}.{part}"
    for ours, theirs in {
        "skewness": "skewness",
        "kurtosis": "kurtosis",
        "correlation": "cor",
        "repetition": "sparsity",
        "column_entropy": "attr_ent",
        "mutual_information": "mut_inf",
        "fisher": "f1",
    }.items()
    for part in ("mean", "sd", "min", "max")
}


def pymfe_values(X, y, groups, features, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymfe.mfe import MFE

        extractor = MFE(
            groups=groups,
            features=features,
            summary=["mean", "sd", "min", "max"],
            suppress_warnings=True,
            random_state=0,
        )
        extractor.fit(X, y, **options)
        names, values = extractor.extract()
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_values_equal_those_of_pymfe(load):
    X, y = load(return_X_y=True)
    wanted = {name.split(".")[0] for name in SAME_AS_PYMFE.values()}
    theirs = pymfe_values(
        X, y, ["general", "statistical", "info-theory", "complexity"], sorted(wanted)
    )
    ours = dataset_metafeatures(X, y, landmarkers=False)
    for name, pymfes in SAME_AS_PYMFE.items():
        assert ours[f"dataset.{name}"] == pytest.approx(theirs[pymfes], rel=1e-6), name
    count = pymfe_values(X, y, ["general", "statistical"], ["nr_bin", "nr_outliers"])
    assert ours["dataset.binary_share"] * X.shape[1] == pytest.approx(count["nr_bin"])
    assert ours["dataset.outlier_columns_share"] * X.shape[1] == pytest.approx(
        count["nr_outliers"]
    )


def test_information_of_categorical_columns_equals_that_of_pymfe():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (200, 5))
    y = (X[:, 0] + X[:, 1] + rng.integers(0, 2, 200)) % 3
    texts = np.array([list("abcd")[value] for value in X.ravel()], object).reshape(X.shape)
    features = ["attr_ent", "mut_inf", "nr_cat", "ns_ratio"]
    theirs = pymfe_values(X, y, ["general", "info-theory"], features, cat_cols=list(range(5)))
    ours = dataset_metafeatures(texts, y, landmarkers=False)
    for name in ("categorical_columns", "noise_ratio", "mutual_information_mean"):
        assert ours[f"dataset.{name}"] == pytest.approx(theirs[SAME_AS_PYMFE[name]]), name


def test_landmarkers_equal_those_of_pymfe():
    X, y = load_wine(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    theirs = pymfe_values(
        X, y, ["landmarking"], ["one_nn", "best_node", "linear_discr", "naive_bayes"]
    )
    ours = dataset_metafeatures(X, y)
    names = {"one_nn": "one_nn", "linear": "linear_discr", "naive_bayes": "naive_bayes"}
    for name, pymfes in {**names, "stump": "best_node"}.items():
        assert ours[f"dataset.{name}_score"] == pytest.approx(theirs[f"{pymfes}.mean"]), name


# ---- containers ----------------------------------------------------------------------------


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert b[name] == pytest.approx(value, nan_ok=True, rel=1e-5), name


class Pairs(Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index], self.y[index]


class Stream(IterableDataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __iter__(self):
        return iter(zip(self.X, self.y, strict=True))


def test_a_table_has_the_same_features_in_every_container():
    X, y = load_iris(return_X_y=True)
    reference = dataset_metafeatures(X, y)
    frame = pd.DataFrame(X)
    tensors = torch.as_tensor(X), torch.as_tensor(y)
    assert_same(reference, dataset_metafeatures(frame, pd.Series(y)))
    assert_same(reference, dataset_metafeatures(frame, pd.Series(y).astype("category")))
    assert_same(reference, dataset_metafeatures(frame, np.array(list("abc"))[y]))
    assert_same(reference, dataset_metafeatures(pa.Table.from_pandas(frame), y))
    assert_same(reference, dataset_metafeatures(scipy.sparse.csr_matrix(X), y))
    assert_same(reference, dataset_metafeatures(*tensors))
    assert_same(reference, dataset_metafeatures(X.tolist(), y.tolist()))
    data = TensorDataset(*tensors)
    assert_same(reference, dataset_metafeatures(data))
    assert_same(reference, dataset_metafeatures(DataLoader(data, batch_size=7, shuffle=True)))
    streamed = dataset_metafeatures(Stream(*tensors))
    assert math.isnan(streamed["dataset.rows"])
    assert streamed["dataset.linear_score"] == pytest.approx(reference["dataset.linear_score"])


def test_types_of_columns_are_read_from_pandas_and_arrow():
    frame = pd.DataFrame(
        {
            "number": [1.0, 2.0, None, 4.0],
            "text": ["a", "b", None, "a"],
            "category": pd.Categorical(["x", "y", "x", "x"]),
            "flag": [True, False, True, True],
            "when": pd.to_datetime(["2020", "2021", None, "2023"]),
        }
    )
    features = dataset_metafeatures(frame, [0, 1, 0, 1])
    assert features["dataset.categorical_columns"] == 3
    assert features["dataset.numeric_columns"] == 2
    assert features["dataset.missing_share"] == pytest.approx(3 / 20)
    arrow = dataset_metafeatures(pa.Table.from_pandas(frame), [0, 1, 0, 1])
    assert arrow["dataset.categorical_columns"] == 3


def test_images_are_recognised_with_channels_first_and_last():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)
    for X in (pixels, torch.as_tensor(pixels), pixels.transpose(0, 2, 3, 1)):
        features = dataset_metafeatures(X, np.arange(40) % 2)
        assert [features[f"dataset.image_{n}"] for n in ("channels", "height", "width")] == [
            3, 8, 6,
        ]  # fmt: skip
        assert features["dataset.intensity_mean"] == pytest.approx(pixels.mean())
        assert features["dataset.columns"] == 3 * 8 * 6
    from_items = dataset_metafeatures(Pairs(torch.as_tensor(pixels), np.arange(40) % 2))
    assert from_items["dataset.image_channels"] == 3
    assert from_items["dataset.classes"] == 2


def test_texts_have_the_features_of_their_token_sequences():
    tokens = [torch.tensor([1, 2, 2]), torch.tensor([3]), torch.tensor([1, 4, 4, 4])]
    features = dataset_metafeatures(tokens, [0, 1, 0])
    assert features["dataset.vocabulary"] == 4
    assert features["dataset.length_mean"] == pytest.approx(8 / 3)
    texts = dataset_metafeatures(["a b b", "c", "a d d d"], [0, 1, 0])
    assert_same(features, texts)
    batch = dataset_metafeatures(torch.tensor([[1, 2], [3, 4], [1, 4]]))
    assert batch["dataset.length_max"] == 2


# ---- degenerate data -----------------------------------------------------------------------


DEGENERATE = {
    "empty": (np.empty((0, 3)), np.empty(0)),
    "no columns": (np.empty((4, 0)), np.arange(4) % 2),
    "one row": (np.ones((1, 3)), np.array([1])),
    "constant": (np.ones((20, 3)), np.arange(20) % 2),
    "one class": (np.random.default_rng(0).normal(size=(20, 3)), np.zeros(20)),
    "all missing": (np.full((20, 3), np.nan), np.arange(20) % 2),
    "infinite": (np.full((20, 2), np.inf), np.arange(20) % 2),
    "no target": (np.random.default_rng(0).normal(size=(20, 3)), None),
    "missing targets": (np.random.default_rng(0).normal(size=(6, 2)), [0, 1, None, 0, None, 1]),
    "each row a class": (np.random.default_rng(0).normal(size=(20, 3)), np.arange(20).astype(str)),
    "several targets": (np.ones((20, 3)), np.ones((20, 2))),
    "objects": (np.array([["a", 1.0], [None, 2.0], ["b", None]] * 5, object), ["x", "y", "x"] * 5),
    "huge": (np.random.default_rng(0).normal(size=(20, 3)) * 1e300, np.arange(20) % 2),
    "items of None": ([None, None, None], [0, 1, 0]),
    "ragged": ([[1.0, 2.0], [3.0], []], [0, 1, 0]),
    "bfloat16": (torch.ones(4, 2, dtype=torch.bfloat16), torch.tensor([0, 1, 0, 1])),
}  # fmt: skip


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data_has_the_same_names_and_no_infinite_values(name):
    features = dataset_metafeatures(*DEGENERATE[name])
    assert features.keys() == dataset_metafeatures(*load_iris(return_X_y=True)).keys()
    assert not any(math.isinf(value) for value in features.values())


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(0, 4))),
    st.sampled_from(["classes", "numbers", "none"]),
    st.integers(0, 9),
)
def test_no_array_of_numbers_raises_or_gives_infinite_values(X, target, seed):
    rng = np.random.default_rng(seed)
    y = {"classes": rng.integers(0, 3, len(X)), "numbers": rng.normal(size=len(X)), "none": None}
    features = dataset_metafeatures(X, y[target])
    assert not any(math.isinf(value) for value in features.values())


def test_classes_and_quantities_are_distinguished_by_their_values():
    X, y = load_diabetes(return_X_y=True)
    features = dataset_metafeatures(X, y)
    assert features["dataset.is_regression"] == 1.0
    assert math.isnan(features["dataset.classes"])
    assert 0.3 < features["dataset.linear_score"] < 0.6
    as_classes = dataset_metafeatures(X, y, regression=False)
    assert as_classes["dataset.is_regression"] == 0.0
    assert as_classes["dataset.classes"] == len(np.unique(y))


def test_wrong_arguments_raise_errors_that_name_them():
    with pytest.raises(TypeError, match="X must be an array"):
        dataset_metafeatures(3)
    with pytest.raises(ValueError, match="X has 3 rows and y has 2"):
        dataset_metafeatures(np.ones((3, 1)), [0, 1])


# ---- large data, chance --------------------------------------------------------------------


def test_large_data_is_sampled_but_its_size_and_classes_are_exact():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 300))
    y = (rng.random(20_000) < 0.01).astype(int)
    features = dataset_metafeatures(X, y)
    assert (features["dataset.rows"], features["dataset.columns"]) == (20_000, 300)
    # The shares of all rows, not of the sample.
    assert features["dataset.class_share_min"] == pytest.approx(y.mean())
    assert_same(features, dataset_metafeatures(X, y))
    other = dataset_metafeatures(X, y, seed=1)
    assert other["dataset.skewness_mean"] != features["dataset.skewness_mean"]


def test_scale_invariant_features_ignore_units_and_offsets():
    X, y = load_wine(return_X_y=True)
    plain, scaled = dataset_metafeatures(X, y), dataset_metafeatures(1e6 * X + 3.0, y)
    for name in ("skewness_mean", "kurtosis_mean", "correlation_mean", "one_nn_score"):
        assert scaled[f"dataset.{name}"] == pytest.approx(plain[f"dataset.{name}"])


def test_extract_describes_the_levels_that_were_passed():
    assert extract() == {}
    X, y = load_iris(return_X_y=True)
    features = extract(X, y, model=torch.nn.Linear(4, 3), curve=[1.0, 0.5, 0.4])
    assert {name.split(".")[0] for name in features} == {"dataset", "network", "dynamics"}
    assert features["network.parameters"] == 15
