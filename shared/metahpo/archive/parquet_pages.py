"""What the footer and the pages of a Parquet file claim, before Arrow reads them.

Arrow makes room for as many bytes and values as a page's header says, and a run of a billion equal
values takes a few bytes in a file. What is read here is read without Arrow's Python interface to
row groups, which ends the process where they are broken. The format:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from metahpo.archive.limits import DECOMPRESSED_BYTES, FOOTER_BYTES, PAGES, TRIALS, VALUES
from metahpo.archive.thrift import read_struct

# PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED and RLE_DICTIONARY. Others store differences, of which
# a few bytes can stand for texts of any length.
_ENCODINGS = {0, 2, 3, 4, 8}
# Fields of a page's header, and within it those of each kind of page that holds values, with the
# fields of their number of values and their encoding.
_DECOMPRESSED, _COMPRESSED = 2, 3
_KINDS = {5: (1, 2), 7: (1, 2), 8: (1, 4)}
_DICTIONARY = 7
# Of a page's header, which is a few dozen bytes and may hold two extreme values.
_HEADER_BYTES = 65_536


def check_footer(content: bytes) -> None:
    """Check the size of a file's footer, which Arrow parses as soon as it opens the file.

    Raises:
        ValueError: If it exceeds ``FOOTER_BYTES``.
    """
    size = _footer_size(content)
    if size > FOOTER_BYTES and content[-4:] == b"PAR1":
        raise ValueError(f"its footer has {size:,} bytes, more than {FOOTER_BYTES:,}")


def check_pages(content: bytes, columns: frozenset[str]) -> None:
    """Check what a file's columns would take in memory.

    Args:
        content: A file whose footer has been checked.
        columns: Names of the columns that will be read.

    Raises:
        ValueError: If they exceed ``TRIALS``, ``VALUES``, ``PAGES`` or ``DECOMPRESSED_BYTES``, or
            if the pages contradict the footer.
    """
    try:
        rows, chunks = _row_groups(content)
    except (LookupError, TypeError, ValueError):
        raise ValueError("its footer is broken") from None
    if min(rows, default=0) < 0 or sum(rows) > TRIALS:
        raise ValueError(f"it has {sum(rows):,} trials, more than {TRIALS:,}")
    decompressed = pages = 0
    for chunk in chunks:
        if chunk.column in columns:
            size, count = _checked_pages(content, chunk)
            decompressed, pages = decompressed + size, pages + count
            _check_sum(decompressed, pages)


def _check_sum(decompressed: int, pages: int) -> None:
    if pages > PAGES:
        raise ValueError(f"it has more than {PAGES:,} pages")
    if decompressed > DECOMPRESSED_BYTES:
        raise ValueError(f"it has more than {DECOMPRESSED_BYTES:,} bytes once it is decompressed")


# ---- the footer ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The values of a column in a row group: their number, and the bytes that hold them."""

    column: str
    values: int
    start: int
    end: int


def _footer_size(content: bytes) -> int:
    return int.from_bytes(content[-8:-4], "little")


def _row_groups(content: bytes) -> tuple[list[int], list[_Chunk]]:
    """Return the numbers of rows of the row groups, and their chunks.

    Raises:
        ValueError, LookupError, TypeError: If the footer is broken.
    """
    start = max(len(content) - 8 - _footer_size(content), 0)
    footer, _ = read_struct(content[start:-8])
    groups = footer[4]
    rows = [_whole(group[3]) for group in groups]
    return rows, [_chunk(column[3]) for group in groups for column in group[1]]


def _chunk(described: dict[int, Any]) -> _Chunk:
    start, dictionary = _whole(described[9]), _whole(described.get(11, 0))
    # As Arrow: where a dictionary comes first.
    if 0 < dictionary < start:
        start = dictionary
    end = start + _whole(described[7])
    return _Chunk(described[3][0].decode(), _whole(described[5]), start, end)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value


# ---- pages ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Page:
    """What a page claims: its bytes once decompressed, its values and their encoding."""

    size: int
    values: int
    encoding: int
    is_dictionary: bool


def _checked_pages(content: bytes, chunk: _Chunk) -> tuple[int, int]:
    """Return the bytes that a chunk's pages take once decompressed, and the number of pages."""
    size = values = count = 0
    for count, page in enumerate(_pages(content, chunk), start=1):
        _check_sum(size, count)
        if page.encoding not in _ENCODINGS:
            raise ValueError(f"column {chunk.column!r} has an encoding that is not read")
        if page.values > VALUES or values > VALUES:
            raise ValueError(f"column {chunk.column!r} has more than {VALUES:,} values")
        size += page.size
        values += 0 if page.is_dictionary else page.values
    if values != chunk.values:
        raise ValueError(
            f"column {chunk.column!r} has {values} values, and the footer claims {chunk.values}"
        )
    return size, count


def _pages(content: bytes, chunk: _Chunk) -> Iterator[_Page]:
    """Yield the pages of a chunk.

    Raises:
        ValueError: If they are broken or lie outside of the file.
    """
    if not chunk.values:
        # Arrow reads no page then.
        return
    if not 0 < chunk.start <= chunk.end <= len(content):
        raise ValueError(f"column {chunk.column!r} lies outside of the file")
    at = chunk.start
    while at < chunk.end:
        try:
            page, length = _page(content[at : at + _HEADER_BYTES])
        except (LookupError, TypeError, ValueError, StopIteration):
            raise ValueError(f"column {chunk.column!r} has a broken page") from None
        at += length
        yield page


def _page(data: bytes) -> tuple[_Page, int]:
    """Return the page whose header begins some bytes, and its length with the header."""
    header, length = read_struct(data)
    kind = next(kind for kind in _KINDS if kind in header)
    values, encoding = (_whole(header[kind][field]) for field in _KINDS[kind])
    size, stored = _whole(header[_DECOMPRESSED]), _whole(header[_COMPRESSED])
    if min(size, stored, values) < 0:
        raise ValueError("a negative size")
    return _Page(size, values, encoding, kind == _DICTIONARY), length + stored
