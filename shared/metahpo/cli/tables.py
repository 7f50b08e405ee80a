"""Data sets in CSV and Parquet files."""

from __future__ import annotations

import difflib
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

# Endings of Parquet files; any other file is read as CSV.
PARQUET = (".parquet", ".pq")


class TableError(ValueError):
    """A file is not a table or lacks a column; the message names the file and the reason."""


def read_table(path: str | Path, target: str) -> tuple[pa.Table, list[object]]:
    """Read the inputs and the target of a data set.

    Args:
        path: A Parquet file, or a CSV file whose first line holds the names of the columns.
        target: Name of the target column.

    Returns:
        The other columns, and the values of the target, `n`.

    Raises:
        TableError: If the file cannot be read or lacks the column.
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
