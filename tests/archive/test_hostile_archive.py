"""Archives with broken and hostile files: a row costs a trial, a file a file, and time is bounded.

The short run tries 600 damaged and 200 hostile files, the slow one 12,000 and 2,000.
"""

import json
import os
import subprocess
import sys
import uuid
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.distributions import FloatDistribution
from support.hostile_archives import GOOD, damaged, file_of, hostile_files

from metahpo import Archive, Space, Task, Trial, cli
from metahpo.archive import (
    ArchiveError,
    ArchiveWarning,
    SourceError,
    folder_reading,
    limits,
    parquet_pages,
)
from metahpo.archive.file_names import FileName
from metahpo.archive.sources import read_history
from metahpo.archive.task_file import read_task
from metahpo.archive.task_table import METADATA_KEY, SCHEMA
from metahpo.suggest.history import History
from metahpo.suggest.policy import suggest
from metahpo.tasks.alignment import align

PRESENT = Task(
    "present",
    GOOD.space,
    tuple(Trial(trial.configuration, trial.value) for trial in GOOD.trials[:4]),
)


def short(value: object) -> str:
    """Part of a test's name."""
    return f"{value!r:.40}"


def write(folder: Path, files: dict[str, bytes]) -> Archive:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Archive(folder)


# ---- fuzzing -------------------------------------------------------------------------------


def check_damaged(seed: int, count: int) -> int:
    """Read damaged files under the archive's name; return how many were read nevertheless."""
    rng = np.random.default_rng(seed)
    name, content = file_of(GOOD)
    read = 0
    for _ in range(count):
        try:
            found = read_task(damaged(content, rng), FileName.parse(name)).task
        except (ValueError, OSError, pa.ArrowException):
            continue
        # What a digest does not cover is nothing that is read.
        assert found == GOOD
        read += 1
    return read


def check_hostile(folder: Path, seed: int, count: int, damaged_count: int) -> None:
    """Read an archive of good, hostile and damaged files, and suggest with it."""
    rng = np.random.default_rng(seed)
    name, content = file_of(GOOD)
    files = {f"hostile-{n}.parquet": c for n, c in enumerate(hostile_files(rng, count))}
    # Without a digest in their names, they are read as far as they can be.
    files |= {f"damaged-{n}.parquet": damaged(content, rng) for n in range(damaged_count)}
    archive = write(folder, files | {name: content})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasks = archive.tasks()
    # Optuna warns of odd distributions itself.
    ours = [str(w.message) for w in caught if isinstance(w.message, ArchiveWarning)]
    assert ours
    assert all(text.isprintable() and ".parquet" in text and len(text) < 2000 for text in ours)
    assert GOOD in tasks
    assert len(tasks) > count // 10
    for task in tasks:
        align(task, PRESENT.space)
        align(PRESENT, task.space)
    names = History(tasks)
    for start in range(0, len(tasks), 100):
        suggest(PRESENT, names[start : start + 100], surrogate="gp", seed=0)


def test_a_damaged_file_is_skipped_or_read_as_it_was():
    assert check_damaged(seed=0, count=400) < 100


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_files_cost_themselves_and_the_search_goes_on(tmp_path):
    check_hostile(tmp_path / "archive", seed=0, count=200, damaged_count=200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_many_damaged_and_hostile_files(tmp_path):
    check_damaged(seed=1, count=10_000)
    check_hostile(tmp_path / "archive", seed=1, count=2_000, damaged_count=2_000)


# ---- what one fault costs ------------------------------------------------------------------


def changed(content: bytes, **changes: object) -> bytes:
    """Return a file with other values in its description; a string stands for itself in JSON."""
    table = pq.read_table(pa.BufferReader(content))
    description = json.loads(table.schema.metadata[METADATA_KEY])
    parts = {key: json.dumps(value) for key, value in description.items()} | changes
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in parts.items()) + "}"
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: text}), sink)
    return sink.getvalue().to_pybytes()


def distribution(**attributes: str) -> str:
    inside = ", ".join(f'\\"{name}\\": {value}' for name, value in attributes.items())
    text = f'{{\\"name\\": \\"FloatDistribution\\", \\"attributes\\": {{{inside}}}}}'
    return f'{{"lr": "{text}"}}'


CIRCLE = (
    '{"width": {"parent": "act", "choices": [1], "at_least": null},'
    ' "act": {"parent": "width", "choices": [8], "at_least": null}}'
)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("name", "[" * 1000 + "]" * 1000, "nested too deeply"),
        ("name", '"' + "x" * 10_001 + '"', "10,001 characters"),
        ("source", '"' + "x" * 10_001 + '"', "10,001 characters"),
        ("name", "null", "name of the task must be a JSON str, got None"),
        ("created", "1e300", "not a date"),
        ("created", "1" + "0" * 400, "creation time is too large"),
        ("created", "NaN", "must be finite"),
        ("written", "true", "must be a number"),
        ("version", "99", "format version is 99"),
        ("space", distribution(low="0", high="1", step="Infinity", log="false"), "distribution"),
        ("space", distribution(low="0", high="1", step="5e-324", log="false"), "distribution"),
        ("space", distribution(low="-1e308", high="1e308", step="null", log="false"), "finite"),
        ("space", '{"lr": 5}', "distribution must be a JSON str, got 5"),
        ("conditions", CIRCLE, "depend on each other"),
        ("conditions", '{"width": {"parent": "act", "choices": 5}}', "must be a JSON list"),
        ("metafeatures", '{"rows": "many"}', "must be a number, got 'many'"),
    ],
    ids=short,
)
def test_a_file_that_claims_nonsense_costs_itself(tmp_path, key, value, why):
    name, content = file_of(GOOD)
    bad = changed(file_of(replace(GOOD, name="bad"))[1], **{key: value})
    archive = write(tmp_path / "archive", {name: content, "bad.parquet": bad})
    with pytest.warns(ArchiveWarning) as caught:
        assert archive.tasks() == [GOOD]
    (warning,) = caught
    assert "bad.parquet" in str(warning.message)
    assert why in str(warning.message)


def with_cells(content: bytes, **cells: object) -> bytes:
    """Return a file with another value in the second row of some columns."""
    table = pq.read_table(pa.BufferReader(content))
    for name, cell in cells.items():
        values = table.column(name).to_pylist()
        values[1] = cell
        field = table.schema.field(name)
        index = table.schema.get_field_index(name)
        table = table.set_column(index, field, pa.array(values, field.type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"configuration": "[" * 1000 + "]" * 1000}, "not JSON"),
        ({"configuration": "{"}, "not JSON"),
        ({"configuration": "{}, {}"}, "not JSON"),
        ({"configuration": "1"}, "one JSON object"),
        ({"configuration": None}, "no configuration"),
        ({"configuration": '{"lr": 1' + "0" * 400 + "}"}, "'lr' must have one value"),
        ({"configuration": '{"lr": 1' + "0" * 5000 + "}"}, "not JSON"),
        ({"configuration": '{"lr": [1]}'}, "'lr' must have one value"),
        ({"configuration": '{"lr": "' + "x" * 2**20 + '"}'}, "1,048,576 characters"),
        ({"state": "asleep"}, "no state 'asleep'"),
        ({"state": None}, "no state None"),
        ({"curve_steps": [1.0, 2.0, 3.0]}, "a value for each step"),
        ({"curve_steps": None}, "a value for each step"),
        ({"curve_steps": [None], "curve_values": [1.0]}, "must be numbers"),
        ({"curve_steps": [1.0], "curve_values": [None]}, "must be numbers"),
        ({"curve_steps": [float("inf")], "curve_values": [1.0]}, "must be numbers"),
    ],
    ids=short,
)
def test_a_row_that_claims_nonsense_costs_one_trial(tmp_path, cells, why):
    archive = write(tmp_path / "archive", {"x.parquet": with_cells(file_of(GOOD)[1], **cells)})
    with pytest.warns(ArchiveWarning, match=r"skipped 1 trial \(trial 1: .*x\.parquet") as caught:
        (task,) = archive.tasks()
    assert why in str(caught[0].message)
    assert task.trials == (GOOD.trials[0], *GOOD.trials[2:])


def test_a_text_that_does_not_decode_costs_one_trial_at_most(tmp_path):
    content = file_of(GOOD)[1]
    table = pq.read_table(pa.BufferReader(content))
    texts = [text.encode() for text in table.column("configuration").to_pylist()]
    texts[1] = b'{"lr": \xff}'
    index = table.schema.get_field_index("configuration")
    column = pa.array(texts, pa.binary())
    raw = pa.StringArray.from_buffers(len(column), *column.buffers()[1:])
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(index, table.schema.field(index), raw), sink)
    archive = write(tmp_path / "archive", {"x.parquet": sink.getvalue().to_pybytes()})
    with pytest.warns(ArchiveWarning, match="not JSON"):
        (task,) = archive.tasks()
    assert len(task.trials) == len(GOOD.trials) - 1


def test_a_file_that_was_changed_under_its_name_is_skipped_and_read_under_another(tmp_path):
    name, content = file_of(GOOD)
    better = with_cells(content, value=99.0)
    archive = write(tmp_path / "archive", {name: better})
    with pytest.warns(ArchiveWarning, match="differs from the digest in its name"):
        assert archive.tasks() == []
    archive = write(tmp_path / "other", {"mine.parquet": better})
    assert archive.tasks()[0].trials[1].value == 99.0


def test_a_flipped_bit_in_a_page_is_found_by_its_checksum():
    name, content = file_of(GOOD)
    chunk = pq.read_metadata(pa.BufferReader(content)).row_group(0).column(4)
    broken = bytearray(content)
    broken[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 4
    for parts in (None, FileName.parse(name)):
        with pytest.raises((OSError, ValueError, pa.ArrowException)):
            read_task(bytes(broken), parts)


def test_a_task_that_could_not_be_read_again_is_not_written(tmp_path):
    archive = Archive(tmp_path / "archive")
    space, huge = GOOD.space, Trial({"lr": 10**400}, 1.0)
    for task in (
        Task("x" * 10_001, space),
        Task("t", space, created=1e300),
        Task("t", space, created=float("nan")),
        Task("t", space, (huge,)),
        Task("t", space, (Trial({}, 1.0, curve=((float("nan"), 1.0),)),)),
        Task("t", Space({f"x{i}": FloatDistribution(0, 1) for i in range(2001)})),
    ):
        with pytest.raises(ArchiveError, match="cannot be archived"):
            archive.add(task)
        assert not list((tmp_path / "archive").iterdir())
        with pytest.warns(ArchiveWarning, match="cannot be archived"):
            assert Archive(tmp_path / "other").extend([task, GOOD])
    assert Archive(tmp_path / "other").tasks() == [GOOD]


# ---- bounds --------------------------------------------------------------------------------


def columns_of(rows: int, steps: int) -> dict:
    """Columns whose values are all equal: a few bytes in a file, however many they are."""
    zeros, none = pa.array(np.zeros(rows, np.int32)), pa.nulls(rows, pa.float64())
    ends = pa.array(np.minimum(np.arange(rows + 1), 1) * steps, pa.int32())
    curves = pa.ListArray.from_arrays(ends, pa.array(np.zeros(steps)))
    text = {
        name: pa.DictionaryArray.from_arrays(zeros, [value])
        for name, value in (
            *(("task", "t"), ("state", "complete")),
            *(("configuration", "{}"), ("user_attributes", "{}")),
        )
    }
    for name in ("configuration", "user_attributes"):
        text[name] = text[name].cast(pa.string())
    return text | {
        "number": zeros.cast(pa.int64()),
        **dict.fromkeys(("value", "cost", "started", "finished", "violation"), none),
        **dict.fromkeys(("curve_steps", "curve_values"), curves),
    }


def bomb(rows: int, steps: int) -> bytes:
    metadata = pq.read_schema(pa.BufferReader(file_of(Task("bomb", Space({})))[1])).metadata
    columns = columns_of(rows, steps)
    sink = pa.BufferOutputStream()
    table = pa.table(
        {name: columns[name] for name in SCHEMA.names}, SCHEMA.with_metadata(metadata)
    )
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


READING = """
import sys, warnings
from metahpo import Archive
warnings.simplefilter("ignore")
peak = lambda: int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
before = peak()
assert [task.name for task in Archive(sys.argv[1])] == ["good"]
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_that_claim_billions_of_values_take_no_memory(tmp_path):
    name, content = file_of(GOOD)
    files = {name: content, "rows.parquet": bomb(3_000_000, 1), "curve.parquet": bomb(1, 10**7)}
    assert all(len(content) < 200_000 for content in files.values())
    write(tmp_path / "archive", files)
    ended = subprocess.run(
        [sys.executable, "-c", READING, str(tmp_path / "archive")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(ended.stdout) < 100


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("TRIALS", 11, "12 trials, more than 11"),
        ("VALUES", 10, "more than 10 values"),
        ("DECOMPRESSED_BYTES", 100, "more than 100 bytes once it is decompressed"),
        ("PAGES", 3, "more than 3 pages"),
        ("FOOTER_BYTES", 1000, "more than 1,000"),
    ],
)
def test_what_exceeds_a_limit_is_skipped_and_named(tmp_path, monkeypatch, limit, value, why):
    name, content = file_of(GOOD)
    archive = write(tmp_path / "archive", {name: content})
    monkeypatch.setattr(parquet_pages, limit, value)
    with pytest.warns(ArchiveWarning, match=f"{name}.*{why}"):
        assert archive.tasks() == []
    with pytest.raises(ArchiveError, match=f"cannot be archived: .*{why}"):
        Archive(tmp_path / "other").add(GOOD)


def test_what_is_read_of_a_study_can_be_archived(tmp_path):
    names = [f"x{number}" for number in range(limits.MOST_HYPERPARAMETERS + 1)]
    archive = Archive(tmp_path)
    task = Task("wide", Space(dict.fromkeys(names[1:], FloatDistribution(0, 1))))
    archive.add(task)
    assert archive.tasks() == [task]
    with pytest.raises(ArchiveError, match="2,001 hyperparameters, more than 2,000"):
        archive.add(Task("wider", Space(dict.fromkeys(names, FloatDistribution(0, 1)))))


def test_what_exceeds_the_limits_of_an_archive_is_left_out_and_counted(tmp_path, monkeypatch):
    files = dict(file_of(replace(GOOD, name=f"task {n}")) for n in range(200))
    archive = write(tmp_path / "archive", files)
    monkeypatch.setattr(folder_reading, "MOST_ENTRIES", 150)
    with pytest.warns(ArchiveWarning, match="and 49 other files: it comes after 150 others"):
        assert len(archive.tasks()) == 150
    monkeypatch.setattr(folder_reading, "MOST_ENTRIES", 200)
    monkeypatch.setattr(folder_reading, "ARCHIVED_TRIALS", 100)
    with pytest.warns(ArchiveWarning, match="and 190 other files: the others have 100 trials"):
        assert len(archive.tasks()) == 9


def test_a_page_that_contradicts_the_footer_is_refused():
    content = bytearray(file_of(GOOD)[1])
    chunk = pq.read_metadata(pa.BufferReader(content)).row_group(0).column(3)
    # The header of the page begins with its type, sizes and checksum; 12 values are 24 in zigzag.
    at = content.index(b"\x15\x18", chunk.data_page_offset)
    content[at + 1] = 126
    with pytest.raises(ValueError, match="63 values, and the footer claims 12"):
        read_task(bytes(content))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_devices_folders_and_dangling_links_are_skipped_at_once(tmp_path):
    name, content = file_of(GOOD)
    archive = write(tmp_path / "archive", {name: content})
    folder = tmp_path / "archive"
    os.mkfifo(folder / "pipe.parquet")
    (folder / "device.parquet").symlink_to("/dev/zero")
    (folder / "folder.parquet").mkdir()
    (folder / "nothing.parquet").symlink_to(tmp_path / "nothing")
    (folder / "loop.parquet").symlink_to(folder / "loop.parquet")
    (folder / "huge.parquet").touch()
    os.truncate(folder / "huge.parquet", 2**40)
    with pytest.warns(ArchiveWarning) as caught:
        assert archive.tasks() == [GOOD]
    named = [str(warning.message) for warning in caught]
    for bad in ("pipe", "device", "folder", "loop", "huge"):
        assert any(f"{bad}.parquet" in text for text in named)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / "link.parquet").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(ArchiveWarning):
        assert archive.tasks() == [GOOD]


# ---- names and places ----------------------------------------------------------------------

NASTY = ("\x1b[31mred\x1b[0m", "a\nb\r\tc", "\u202eabc", "\ud800", "nul\0", "x" * 2000, "ü/ö 漢字")


def test_nasty_names_survive_and_are_printed_harmlessly(tmp_path, capsys):
    archive = Archive(tmp_path / "archive")
    for name in NASTY:
        space = Space({name: FloatDistribution(0, 1), "x": FloatDistribution(0, 1)})
        trials = (Trial({name: 0.5, "x": 0.5}, 1.0),)
        archive.add(Task(name, space, trials, {name: 1.0}, source=name))
    assert sorted(archive.names()) == sorted(NASTY)
    (tmp_path / "archive" / "\x1b[31mbad.parquet").write_bytes(b"")
    suggest(PRESENT, archive_tasks(archive), surrogate="gp")
    for name in NASTY:
        if "\0" not in name:
            assert cli.main(["show", archive.path, "--task", name]) == 0
    assert cli.main(["show", archive.path]) == 0
    assert cli.main(["show", archive.path, "--task", "\x1b[2J\ud800"]) == 1
    assert cli.main(["collect", archive.path, "--to", str(tmp_path / "\x1b[2Jnew")]) == 0
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert r"\x1b[31mred\x1b[0m" in out
    assert r"\x1b[31mbad.parquet" in err


def archive_tasks(archive: Archive) -> list[Task]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveWarning)
        return archive.tasks()


@pytest.mark.parametrize("name", ["a::b", "::", "simplecache::x", "c:d", "file:x", "a*[b]?", "~x"])
def test_a_local_folder_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, f"./{name}"):
        Archive(path).add(GOOD)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Archive(tmp_path / name).tasks() == [GOOD]


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "ftp://127.0.0.1:port/x",
        "github://x",
        "dir::x://y",
        "simplecache::nowhere://x",
        "http://127.0.0.1:1/x",
        "zip://x::y://z",
        "data://",
        "file://\0",
        "\0",
        "x" * 5000,
        "/dev/null/x",
        "/proc/1/x",
    ],
    ids=short,
)
def test_a_place_that_cannot_be_used_is_one_clear_error(path):
    with pytest.raises(ArchiveError) as caught:
        Archive(path).tasks()
    assert str(caught.value).isprintable()
    with pytest.raises(ArchiveError) as caught:
        Archive(path).add(GOOD)
    assert str(caught.value).isprintable()
    with pytest.raises(SourceError) as caught:
        read_history(path)
    assert "\n" not in str(caught.value)


def test_a_place_must_be_text(tmp_path):
    for path in (b"x", None, 5):
        with pytest.raises(TypeError):
            Archive(path)


@pytest.mark.parametrize("kind", [PermissionError, NotImplementedError, ValueError, TypeError])
def test_whatever_a_backend_raises_is_one_clear_error(monkeypatch, kind):
    for method, use in (("ls", Archive.tasks), ("pipe_file", lambda a: a.add(GOOD))):
        archive = Archive(f"memory://{uuid.uuid4().hex}")

        def fail(*_, **__):
            raise kind("no\nway")

        with monkeypatch.context() as patch:
            patch.setattr(type(archive._place._files), method, fail)
            with pytest.raises(ArchiveError, match=r"cannot (list|write to) the archive at mem"):
                use(archive)
