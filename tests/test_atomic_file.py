"""Files are whole or not there, whatever interrupts writing them."""

from pathlib import Path

import pytest

from metahpo.atomic_file import replaced_whole
from metahpo.optim import initial_weights, load_weights, save_weights


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_interrupts_writing_leaves_the_former_file_alone(tmp_path: Path, error) -> None:
    (tmp_path / "x").write_text("former")

    def write() -> None:
        with replaced_whole(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "former"


def test_files_of_one_stem_are_written_at_once(tmp_path: Path) -> None:
    with replaced_whole(tmp_path / "a.x") as one, replaced_whole(tmp_path / "a.y") as other:
        one.write_text("x")
        other.write_text("y")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.x": "x", "a.y": "y"}


def test_weights_that_cannot_be_put_in_place_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "file").touch()
    with pytest.raises(OSError, match="w"):
        save_weights(initial_weights(), tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    save_weights(initial_weights(), tmp_path / "v")
    assert load_weights(tmp_path / "v").keys() == initial_weights().keys()
