"""Archives: added tasks are kept, whoever else writes, and broken files do no harm."""

import json
import math
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.archive import (
    Archive,
    ArchiveError,
    ArchiveWarning,
    Outcome,
    place,
)
from metahpo.archive.task_table import FORMAT_VERSION, METADATA_KEY
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial, TrialState

CHOICES = (None, True, 1, 2.5, "a")
SPACE = Space(
    {
        "lr": FloatDistribution(1e-5, 1.0, log=True),
        "layers": IntDistribution(1, 4),
        "choice": CategoricalDistribution(CHOICES),
    },
    {"lr": Condition("choice", choices=("a", None)), "choice": Condition("layers", at_least=2)},
)
TASK = Task(
    "mnist",
    SPACE,
    (
        Trial({"lr": 0.1, "layers": 2, "choice": None}, 0.5, curve=((1, 0.25), (2, 0.5)), cost=3),
        Trial({"layers": 1}, None, TrialState.RUNNING, started=1e9),
        Trial({"layers": 3, "choice": True}, -0.5, TrialState.PRUNED, finished=1e9),
        Trial({}, None, TrialState.FAILED),
        Trial({"layers": 1}, 9.0, violation=0.25),
        Trial({"layers": 1}, 9.0, violation=math.inf),
        Trial({"layers": 1}, 9.0, user_attributes={"host": "a", "tags": [1, {"deep": None}]}),
    ),
    {"rows": 60000.0, "classes": 10.0},
    created=1.7e9,
    source="sqlite:///hpo.db",
)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def files(archive: Archive) -> list[Path]:
    return sorted(Path(archive.path).iterdir())


numbers = st.none() | st.floats(allow_nan=False)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trials = st.builds(
    Trial,
    st.dictionaries(st.text(), values, max_size=4),
    numbers,
    st.sampled_from(TrialState),
    st.lists(st.tuples(st.floats(0, 100), st.floats(allow_nan=False)), max_size=3).map(tuple),
    numbers,
    numbers,
    numbers,
    st.floats(min_value=0.0),
)
tasks = st.builds(
    Task,
    st.text(),
    st.just(SPACE),
    st.lists(trials, max_size=4).map(tuple),
    st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
    st.none() | st.floats(0, 1e10),
    st.text(),
)


class TestRoundTrip:
    @settings(deadline=None, max_examples=50)
    @given(tasks)
    def test_any_task_survives_the_round_trip(self, task):
        archive = Archive(f"memory://{uuid.uuid4().hex}")
        assert archive.add(task) is Outcome.ADDED
        assert archive.tasks() == [task]

    def test_a_task_with_conditions_and_every_state_survives_the_round_trip(self, archive):
        archive.add(TASK)
        (read,) = archive
        assert read == TASK
        types = [type(c.configuration.get("choice")) for c in read.trials]
        assert types == [type(c.configuration.get("choice")) for c in TASK.trials]

    def test_a_file_of_the_first_format_has_feasible_trials_alone(self, archive):
        archive.add(TASK)
        (path,) = files(archive)
        table = pq.ParquetFile(path).read().drop_columns(["violation", "user_attributes"])
        description = json.loads(table.schema.metadata[METADATA_KEY]) | {"version": 1}
        metadata = {METADATA_KEY: json.dumps(description)}
        path.unlink()  # its name holds a digest of its content
        pq.write_table(table.replace_schema_metadata(metadata), path.with_name("by-hand.parquet"))
        (read,) = archive
        assert read.trials == tuple(
            replace(trial, violation=0.0, user_attributes={}) for trial in TASK.trials
        )

    @pytest.mark.parametrize(
        ("written", "read"), [(None, 0.0), (-1.0, 0.0), (math.nan, math.inf), (0.5, 0.5)]
    )
    def test_a_violation_in_a_file_is_never_negative_nor_nan(self, archive, written, read):
        archive.add(Task("t", SPACE, (Trial({}, 1.0),)))
        (path,) = files(archive)
        table = pq.ParquetFile(path).read()
        place = table.schema.get_field_index("violation")
        table = table.set_column(place, "violation", pa.array([written], pa.float64()))
        path.unlink()
        pq.write_table(table, path.with_name("by-hand.parquet"))
        assert [trial.violation for trial in archive.task("t").trials] == [read]

    def test_nan_and_none_stay_different(self, archive):
        values = (math.nan, None, math.inf, -math.inf, 0.0)
        archive.add(Task("t", SPACE, tuple(Trial({}, value) for value in values)))
        read = [trial.value for trial in archive.task("t").trials]
        assert math.isnan(read[0])
        assert read[1:] == [None, math.inf, -math.inf, 0.0]

    def test_numpy_values_become_python_values(self, archive):
        trial = Trial({"lr": np.float32(0.5), "layers": np.int64(2)}, np.float64(1.0))
        archive.add(Task("t", SPACE, (trial,)))
        assert archive.task("t").trials[0].configuration == {"lr": 0.5, "layers": 2}

    def test_a_value_that_json_cannot_hold_is_an_error(self, archive):
        task = Task("t", SPACE, (Trial({"choice": (1, 2)}, 1.0),))
        with pytest.raises(ArchiveError, match=r"task 't'.*'choice'.*\(1, 2\)"):
            archive.add(task)
        assert not files(archive)

    def test_tasks_may_have_names_that_no_file_may_have(self, archive):
        names = ["../../etc/passwd", ".hidden", "_x", "", "ü/ö\\:*?", "x" * 500, "a b", "a/b"]
        archive.extend(Task(name, SPACE) for name in names)
        assert sorted(archive.names()) == sorted(names)
        assert all(len(path.name) < 120 for path in files(archive))


class TestAdd:
    def test_adding_the_same_task_again_changes_nothing(self, archive):
        assert archive.extend([TASK, TASK]) == {Outcome.ADDED: 1, Outcome.UNCHANGED: 1}
        before = [(path, path.stat().st_mtime_ns) for path in files(archive)]
        assert Archive(archive.path).add(TASK) is Outcome.UNCHANGED
        assert [(path, path.stat().st_mtime_ns) for path in files(archive)] == before

    def test_a_study_that_has_grown_replaces_its_former_content(self, archive):
        archive.add(TASK)
        grown = replace(TASK, trials=(*TASK.trials, Trial({}, 1.0)))
        assert archive.add(grown) is Outcome.REPLACED
        assert archive.tasks() == [grown]
        assert len(files(archive)) == len(archive) == 1

    def test_former_content_that_is_added_again_counts(self, archive):
        grown = replace(TASK, trials=())
        for task in (TASK, grown, TASK):
            archive.add(task)
        assert archive.tasks() == [TASK]

    def test_of_two_files_written_at_once_the_later_counts(self, archive, tmp_path):
        # Neither process saw the other's file, so neither removed it.
        later = replace(TASK, trials=())
        archive.add(TASK)
        other = Archive(tmp_path / "other")
        other.add(later)
        shutil.copytree(other.path, archive.path, dirs_exist_ok=True)
        assert len(files(archive)) == 2
        assert archive.tasks() == [later]
        assert len(archive) == 1
        assert archive.add(TASK) is Outcome.REPLACED
        assert archive.tasks() == [TASK]
        assert len(files(archive)) == 1

    def test_different_studies_of_one_name_are_both_kept(self, archive):
        later = replace(TASK, created=1.7e9 + 86400, trials=())
        archive.extend([later, TASK])
        assert archive.names() == ["mnist", "mnist @ 2023-11-15 22:13:20"]
        assert archive.task("mnist") == TASK
        assert archive.task("mnist @ 2023-11-15 22:13:20") == later
        assert archive.tasks() == [TASK, later]

    def test_a_failed_write_leaves_no_file(self, archive, monkeypatch):
        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr("os.replace", fail)
        with pytest.raises(ArchiveError, match=r"cannot write to .*disk full"):
            archive.add(TASK)
        assert not files(archive)


class TestSkipped:
    """One broken file never costs the others."""

    @staticmethod
    def path(archive: Archive) -> Path:
        archive.extend([TASK, replace(TASK, name="other")])
        return next(path for path in files(archive) if path.name.startswith("other"))

    @staticmethod
    def rewrite(path: Path, **changes: object) -> None:
        table = pq.ParquetFile(path).read()
        description = json.loads(table.schema.metadata[METADATA_KEY])
        metadata = {METADATA_KEY: json.dumps(description | changes)}
        pq.write_table(table.replace_schema_metadata(metadata), path)

    def check(self, archive: Archive, path: Path, why: str) -> None:
        with pytest.warns(ArchiveWarning, match=f"{path.name}.*{why}"):
            assert archive.tasks() == [TASK]

    def test_a_truncated_file_is_skipped(self, archive):
        path = self.path(archive)
        path.write_bytes(path.read_bytes()[:-20])
        self.check(archive, path, "Parquet")

    def test_an_empty_file_is_skipped(self, archive):
        path = self.path(archive)
        path.write_bytes(b"")
        self.check(archive, path, "Parquet file size is 0 bytes")

    def test_another_parquet_file_is_skipped(self, archive):
        path = self.path(archive).with_name("foreign.parquet")
        pq.write_table(pa.table({"x": [1]}), path)
        with pytest.warns(ArchiveWarning, match="foreign.parquet.*not a task"):
            assert archive.names() == ["mnist", "other"]

    def test_a_file_of_a_newer_format_is_skipped(self, archive):
        path = self.path(archive)
        self.rewrite(path, version=FORMAT_VERSION + 1)
        self.check(archive, path, f"format version is {FORMAT_VERSION + 1}")

    @pytest.mark.parametrize(
        "changes",
        [
            {"space": {"x": "no distribution"}},
            {"space": None},
            {"metafeatures": {"rows": None}},
            {"created": "yesterday"},
            {"version": None},
        ],
    )
    def test_a_file_with_damaged_metadata_is_skipped(self, archive, changes):
        path = self.path(archive)
        self.rewrite(path, **changes)
        self.check(archive, path, "")

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("configuration", "{"),
            ("configuration", "1"),
            ("configuration", "{}, {}"),
            ("configuration", None),
            ("state", "no state"),
            ("curve_steps", [1.0, 2.0, 3.0]),
        ],
    )
    def test_a_file_with_damaged_rows_is_skipped(self, archive, column, value):
        path = self.path(archive)
        table = pq.ParquetFile(path).read()
        index = table.schema.get_field_index(column)
        rows = [value, *table.column(column).to_pylist()[1:]]
        field = table.schema.field(column)
        pq.write_table(table.set_column(index, field, pa.array(rows, field.type)), path)
        self.check(archive, path, "")

    def test_a_file_with_other_columns_is_skipped(self, archive):
        path = self.path(archive)
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["cost"]), path)
        self.check(archive, path, "columns")

    def test_an_unreadable_file_is_skipped(self, archive):
        path = self.path(archive)
        path.unlink()
        path.mkdir()
        self.check(archive, path, "")

    def test_a_file_that_is_replaced_while_reading_is_read_again(self, archive, monkeypatch):
        archive.add(TASK)
        (former,) = files(archive)
        grown = replace(TASK, trials=())
        read = place._read_local

        def replaced_just_before(path: str) -> bytes:
            if former.exists():
                Archive(archive.path).add(grown)
            return read(path)

        monkeypatch.setattr(place, "_read_local", replaced_just_before)
        assert archive.tasks() == [grown]

    def test_unfinished_files_are_ignored(self, archive):
        archive.add(TASK)
        (Path(archive.path) / ".0123.parquet").write_bytes(b"half a fi")
        (Path(archive.path) / "README.md").write_text("ours")
        assert len(archive) == 1
        assert archive.tasks() == [TASK]


class TestPlaces:
    def test_reading_where_there_is_no_archive_is_an_error(self, archive):
        for read in (archive.tasks, archive.names, archive.__len__, lambda: archive.task("x")):
            with pytest.raises(ArchiveError, match=r"no archive at .*archive"):
                read()
        assert not Path(archive.path).exists()

    def test_reading_a_file_as_an_archive_is_an_error(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        with pytest.raises(ArchiveError, match="is a file"):
            Archive(path).tasks()

    def test_an_unknown_protocol_is_an_error(self):
        with pytest.raises(ArchiveError, match="nowhere://x"):
            Archive("nowhere://x")

    def test_an_archive_may_be_at_an_fsspec_url(self):
        url = f"memory://{uuid.uuid4().hex}/archive"
        archive = Archive(url)
        with pytest.raises(ArchiveError, match="no archive"):
            archive.tasks()
        archive.extend([TASK, replace(TASK, name="other"), replace(TASK, trials=())])
        assert Archive(url).names() == ["mnist", "other"]
        stored = fsspec.filesystem("memory").ls(url, detail=False)
        assert len(stored) == 2

    def test_the_error_for_an_unknown_name_suggests_a_similar_one(self, archive):
        archive.add(TASK)
        with pytest.raises(ArchiveError, match=r"no task 'mnits'.*did you mean 'mnist'"):
            archive.task("mnits")

    def test_pandas_reads_an_archive_as_one_table(self, archive):
        archive.extend([TASK, replace(TASK, name="other")])
        frame = pd.read_parquet(archive.path)
        assert sorted(frame["task"].unique()) == ["mnist", "other"]
        first = frame[frame["task"] == "mnist"].iloc[0]
        assert first["number"] == 0
        assert first["state"] == "complete"
        assert first["value"] == 0.5
        assert json.loads(first["configuration"]) == TASK.trials[0].configuration
        assert first["curve_values"].tolist() == [0.25, 0.5]

    def test_importing_it_imports_no_large_package(self):
        program = (
            "import sys, metahpo.archive.archive\n"
            "heavy = {'torch', 'pandas', 'scipy', 'sklearn', 'ray', 'sqlalchemy'}\n"
            "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_thousand_tasks_open_in_little_memory(archive):
    space = Space({f"x{i}": FloatDistribution(0, 1) for i in range(7)})
    rng = np.random.default_rng(0)
    archive.extend(
        Task(
            f"task {number}",
            space,
            tuple(Trial(c, rng.random(), cost=1.0) for c in space.decode(rng.random((100, 7)))),
        )
        for number in range(1000)
    )
    program = (
        "import sys\n"
        "from metahpo import Archive\n"
        "tasks = Archive(sys.argv[1]).tasks()\n"
        "assert len(tasks) == 1000\n"
        # What getrusage returns begins with the peak of the process that started this one.
        "print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, archive.path], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) * 1024 < 600 * 2**20
