"""`python -m benchmarks.structure`: the walk of a suggestion, sizes, constants."""

import pytest

from benchmarks import structure

MODULE = """
LIMIT = 3
FIRST, SECOND = 1, 2
_HIDDEN: float = 0.5
small = 4
T = "one letter is a type variable"


@property
def outer():
    NOT_OF_THE_MODULE = 1

    def inner():
        return NOT_OF_THE_MODULE

    return inner
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    return path


def test_constants_are_the_capitals_assigned_at_the_top_of_a_module(module):
    assert structure.constants_of(module) == ["LIMIT", "FIRST", "SECOND", "_HIDDEN"]


def test_the_length_of_a_function_includes_nested_ones_and_no_decorators(module):
    assert structure.function_lengths(module) == [7, 2]


def test_the_walk_begins_at_the_sampler_and_passes_the_policy(capsys):
    structure.main(["walk", "--surrogate", "gp"])
    *rows, _, total = capsys.readouterr().out.splitlines()
    files = [row.split(" | ")[1] for row in rows[2:]]
    assert files[0] == "optuna_meta/sampler.py"
    assert "metahpo/suggest/policy.py" in files
    assert len(files) == len(set(files))
    assert total.startswith(f"{len(files)} files, ")


def test_returning_to_a_file_counts_once_for_each_change():
    calls = [compile("0", file, "eval") for file in ("a", "a", "b", "a", "b", "b")]
    assert [code.co_filename for code in structure.changes(calls)] == ["a", "b", "a", "b"]


def test_every_package_and_their_sum_have_sizes(capsys):
    structure.main(["sizes"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    files = {row[0].removeprefix("| "): row[1] for row in rows[2:]}
    assert {"metahpo/suggest", "optuna_meta", "raytune_meta"} < set(files)
    assert int(files.pop("all")) == sum(map(int, files.values()))


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(SystemExit, match=r"no module called metahpo\.nothing"):
        structure.main(["constants", "metahpo.nothing"])
