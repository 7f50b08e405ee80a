"""Data sets in files: CSV and Parquet."""

from __future__ import annotations

import difflib
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

PARQUET = (".parquet", ".pq")


class TableError(ValueError):
    """A file that is no table, or lacks a column; the message names it and says why."""


def read_table(path: str | Path, target: str) -> tuple[pa.Table, list[object]]:
    """Inputs and target of a data set.

    Args:
        path: A Parquet file by its ending, a CSV file with a line of names otherwise.
        target: The name of the target's column.

    Returns:
        The other columns, and the target's n values.

    Raises:
        TableError: For a file that cannot be read or that lacks the column.
    """
    is_parquet = Path(path).suffix.lower() in PARQUET
    try:
        table = parquet.read_table(path) if is_parquet else csv.read_csv(path)
    except FileNotFoundError:
        raise TableError(f"there is no file {path}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"cannot read {path}: {error}") from error
    if target not in table.column_names:
        near = difflib.get_close_matches(target, table.column_names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TableError(f"{path} has no column {target!r}{hint}")
    return table.drop_columns([target]), table.column(target).to_pylist()
