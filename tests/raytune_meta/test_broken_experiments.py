"""Folders of Ray Tune with broken and hostile files: what is whole is still read."""

import json
import os
import random
from pathlib import Path

import optuna
import pytest
from support.hostile import DEEP, NESTED, mutated, read_carefully
from support.ray_folders import params, write_trial

from metahpo.archive import ReadOptions, SourceError, SourceWarning
from metahpo.archive.sources import read_history
from optuna_meta import MetaSampler
from raytune_meta import budget, folders, read_experiment
from raytune_meta.experiment import RayReader
from raytune_meta.inferred_space import infer_space

SHORT, LONG = 150, 2000
OPTIONS = ReadOptions("eval/acc", "max")

VALUES = [None, True, "text", "", [], {}, [[]], {"a": {}}, 10**400, -(10**400), 2**63, 1e308,
          -1.7e308, 5e-324, float("inf"), float("nan"), "\ud800", "\x1b[2J", json.loads(NESTED),
          -1, 0, 1e300]  # fmt: skip
RAW = [b"", b"{", b"null", b"[]", b"5", b'"x"', b"\xff\xfe", b"\x00" * 99, DEEP.encode(),
       b'{"a":' * 3000, b'{"a": 1' + b"0" * 5000 + b"}", b'{"\\ud800": {"\\ud800": 1}}',
       b"{}\n" * 1000, b"x" * 3_000_000]  # fmt: skip


def write(folder: Path, name: str, content: bytes) -> None:
    """Write a file, or what a file system has in place of one."""
    path = folder / name
    if content == b"pipe":
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    elif content == b"loop":
        path.unlink(missing_ok=True)
        path.symlink_to(name)
    elif content == b"device":
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/zero")
    elif content == b"folder":
        path.unlink(missing_ok=True)
        path.mkdir()
    else:
        path.write_bytes(content)


def break_a_file(folder: Path, numbers: random.Random) -> None:
    """Break one of a trial's files in one of several ways."""
    name = numbers.choice(["params.json", "result.json", "result.json", "error.txt"])
    path = folder / name
    if numbers.random() < 0.2 or not path.is_file():
        write(folder, name, numbers.choice([*RAW, b"pipe", b"loop", b"device", b"folder"]))
        return
    if numbers.random() < 0.3:
        path.write_bytes(mutated(path.read_bytes(), numbers))
        return
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError:
        lines = [json.loads(path.read_text())] if name == "params.json" else []
    if not lines or not isinstance(lines[-1], dict):
        return
    target = lines[numbers.randrange(len(lines))]
    key = numbers.choice([*target, "new", ""])
    target[key] = numbers.choice(VALUES)
    path.write_text("\n".join(map(json.dumps, lines)))


def experiment_in(folder: Path, name: str) -> Path:
    for number in range(1, 4):
        write_trial(folder / name, number, params(number), [0.1 * number, 0.2, 0.3])
    return folder / name


def check_folders(tmp_path: Path, seeds: range) -> None:
    (good,) = read_history(experiment_in(tmp_path / "runs", "good"), OPTIONS)
    for seed in seeds:
        numbers = random.Random(seed)
        hurt = experiment_in(tmp_path / "runs", f"hurt{seed}")
        for trial in numbers.sample(sorted(hurt.iterdir()), numbers.randint(1, 2)):
            break_a_file(trial, numbers)
        tasks = read_carefully(lambda: RayReader().read(str(tmp_path / "runs"), OPTIONS))
        assert [task for task in tasks if task.name == "good"] == [good]
        hurt.rename(tmp_path / f"hurt{seed}")


def test_broken_files_cost_trials_and_nothing_else(tmp_path):
    """``SHORT`` experiments with one or two broken trials of three."""
    check_folders(tmp_path, range(SHORT))


@pytest.mark.slow
def test_many_broken_files_cost_trials_and_nothing_else(tmp_path):
    check_folders(tmp_path, range(SHORT, SHORT + LONG))


def test_one_warning_names_what_is_broken(tmp_path):
    hurt = experiment_in(tmp_path, "hurt")
    first, second, _ = sorted(hurt.iterdir())
    (first / "params.json").write_bytes(b"{")
    (second / "result.json").write_bytes(b"{\n{\n")
    expected = r"^skipped in .*hurt: trial .*_00001_.*params.json.*; 2 broken lines .*_00002_"
    with pytest.warns(SourceWarning, match=expected) as caught:
        task = read_experiment(hurt, "eval/acc", "max")
    assert len(caught) == 1
    assert len(task.trials) == 2


@pytest.mark.parametrize("kind", [b"pipe", b"loop", b"device", b"folder"])
@pytest.mark.parametrize("name", ["params.json", "result.json", "error.txt"])
def test_only_regular_files_are_opened(tmp_path, kind, name):
    hurt = experiment_in(tmp_path, "hurt")
    write(sorted(hurt.iterdir())[0], name, kind)
    with pytest.warns(SourceWarning, match=f"trial .*_00001_.*{name}"):
        assert len(read_experiment(hurt, "eval/acc", "max").trials) == 2


def test_a_broken_file_beside_experiments_does_not_hide_them(tmp_path):
    experiment_in(tmp_path / "runs", "good")
    (tmp_path / "runs" / "other").mkdir()
    write(tmp_path / "runs" / "other", "result.json", b"pipe")
    with pytest.warns(SourceWarning, match=r"trial other: result\.json is not a regular file"):
        assert len(RayReader().read(str(tmp_path / "runs"), OPTIONS)) == 1


def test_a_large_file_costs_its_trial_on_a_disk_and_at_a_url(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "LARGEST_PART", 5000)
    hurt = experiment_in(tmp_path, "hurt")
    first = sorted(hurt.iterdir())[0]
    (first / "result.json").write_bytes(b"{}\n" * 2000)
    for source in (str(hurt), f"file://{hurt}"):
        with pytest.warns(SourceWarning, match=r"_00001_.*result.json has more than 5,000 bytes"):
            assert len(read_experiment(source, "eval/acc", "max").trials) == 2


def test_reading_a_folder_is_bounded(tmp_path, monkeypatch):
    hurt = experiment_in(tmp_path, "hurt")
    files = [path for path in sorted(hurt.iterdir())[0].iterdir() if path.suffix == ".json"]
    size = sum(path.stat().st_size for path in files)
    monkeypatch.setattr(budget, "LARGEST_FOLDER", 2 * size + size // 2)
    with pytest.warns(SourceWarning, match=r"1 of 3 folders: .* bytes are read"):
        assert len(read_experiment(hurt, "eval/acc", "max").trials) == 2
    monkeypatch.setattr(budget, "LONGEST_READ", -1.0)
    with pytest.raises(SourceError, match=r"3 of 3 folders: .* bytes are read in .* seconds"):
        read_experiment(hurt, "eval/acc", "max")


@pytest.mark.parametrize(
    "values",
    [
        [10**400, 1], [10**300, 1], [2**70, -(2**70)], [1e308, -1e308], [5e-324, 1.0],
        [float("inf"), 1.0], [1e301, 1.0, 2.0],
    ],
)  # fmt: skip
def test_spaces_of_extreme_values_can_be_searched(values):
    space = infer_space([{"x": value} for value in values])
    ((_, name),) = [(1, n) for n in space]
    (decoded,) = space.decode(space.encode([{name: values[0]}]))
    assert space.encode([decoded]).shape == (1, 1)


def test_a_study_beside_broken_trials_still_gets_suggestions(tmp_path):
    hurt, numbers = experiment_in(tmp_path, "hurt"), random.Random(3)
    write_trial(hurt, 4, params(4), [0.5, 0.6])
    write_trial(hurt, 5, params(5), [0.5, 0.6])
    for trial in sorted(hurt.iterdir())[:3]:
        break_a_file(trial, numbers)
    with pytest.warns(SourceWarning, match="skipped in"):
        tasks = read_history(hurt, OPTIONS)
    study = optuna.create_study(sampler=MetaSampler(history=tasks, seed=0))
    study.optimize(lambda trial: trial.suggest_float("model/lr", 1e-5, 1.0, log=True), n_trials=1)
    assert len(study.trials) == 1


def test_folders_beyond_the_limit_are_the_last_ones_and_named(tmp_path, monkeypatch):
    hurt = experiment_in(tmp_path, "hurt")
    first = [path.name for path in sorted(hurt.iterdir())][:2]
    monkeypatch.setattr(folders, "MOST_ENTRIES", 2)
    for source in (str(hurt), f"file://{hurt}"):
        found = folders.read_folder(source, budget.Budget())
        assert [Path(trial.path).name for trial in found.trials] == first
        assert found.left_out == ("1 folders after the first 2",)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_experiments_of_one_source_share_what_is_read(tmp_path, monkeypatch, scheme):
    for name in "abc":
        experiment_in(tmp_path / "runs", name)
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    monkeypatch.setattr(budget, "LARGEST_FOLDER", size // 2)
    with pytest.warns(SourceWarning, match="bytes are read"):
        tasks = RayReader().read(f"{scheme}{tmp_path / 'runs'}", OPTIONS)
    assert len(tasks) < 3
    monkeypatch.setattr(budget, "LARGEST_FOLDER", size)
    assert len(RayReader().read(f"{scheme}{tmp_path / 'runs'}", OPTIONS)) == 3


def test_half_lines_are_not_joined_into_a_report(tmp_path):
    hurt = experiment_in(tmp_path, "hurt")
    first = sorted(hurt.iterdir())[0]
    whole = '{"training_iteration": 1, "eval": {"acc": 0.25}}\n'
    (first / "result.json").write_text(whole + '{"training_iteration": 2\n"eval": {"acc": 9.0}}\n')
    with pytest.warns(SourceWarning, match="2 broken lines"):
        task = read_experiment(hurt, "eval/acc", "max")
    assert 9.0 not in [value for trial in task.trials for _, value in trial.curve]
