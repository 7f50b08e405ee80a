"""What the pages of a Parquet file claim, before Arrow reads them.

Arrow makes room for as many bytes and values as a page's header says, and a run of a billion equal
values takes a few bytes in a file. The headers are in Thrift's compact protocol; the format:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from metahpo.archive.limits import DECOMPRESSED_BYTES, FOOTER_BYTES, PAGES, TRIALS, VALUES

# PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED and RLE_DICTIONARY. Others store differences, of which
# a few bytes can stand for texts of any length.
_ENCODINGS = {0, 2, 3, 4, 8}
# Fields of a page's header, and within it those of each kind of page that holds values, with the
# fields of their number of values and their encoding.
_DECOMPRESSED, _COMPRESSED = 2, 3
_KINDS = {5: (1, 2), 7: (1, 2), 8: (1, 4)}
_DICTIONARY = 7
# Limits of a page's header, which is a few dozen bytes and may hold two extreme values.
_DEEPEST = 8
_HEADER_BYTES = 65_536


def check_footer(content: bytes) -> None:
    """Check the size of a file's footer, which Arrow parses as soon as it opens the file.

    Raises:
        ValueError: If it exceeds ``FOOTER_BYTES``.
    """
    size = int.from_bytes(content[-8:-4], "little")
    if size > FOOTER_BYTES and content[-4:] == b"PAR1":
        raise ValueError(f"its footer has {size:,} bytes, more than {FOOTER_BYTES:,}")


def check_pages(content: bytes, metadata: pq.FileMetaData, columns: frozenset[str]) -> None:
    """Check what a file's columns would take in memory.

    Args:
        content: The file.
        metadata: Its footer.
        columns: Names of the columns that will be read.

    Raises:
        ValueError: If they exceed ``TRIALS``, ``VALUES``, ``PAGES`` or ``DECOMPRESSED_BYTES``, or
            if the pages contradict the footer.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if not 0 <= rows <= TRIALS or any(group.num_rows < 0 for group in groups):
        raise ValueError(f"it has {rows:,} trials, more than {TRIALS:,}")
    decompressed = pages = 0
    for group in groups:
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema.split(".")[0] in columns:
                size, count = _checked_pages(content, chunk)
                decompressed, pages = decompressed + size, pages + count
                _check_sum(decompressed, pages)


def _check_sum(decompressed: int, pages: int) -> None:
    if pages > PAGES:
        raise ValueError(f"it has more than {PAGES:,} pages")
    if decompressed > DECOMPRESSED_BYTES:
        raise ValueError(f"it has more than {DECOMPRESSED_BYTES:,} bytes once it is decompressed")


def _checked_pages(content: bytes, chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """Return the bytes that a chunk's pages take once decompressed, and the number of pages."""
    size = values = count = 0
    for count, page in enumerate(_pages(content, chunk), start=1):
        _check_sum(size, count)
        if page.encoding not in _ENCODINGS:
            raise ValueError(f"column {chunk.path_in_schema!r} has an encoding that is not read")
        if page.values > VALUES or values > VALUES:
            raise ValueError(f"column {chunk.path_in_schema!r} has more than {VALUES:,} values")
        size += page.size
        values += 0 if page.is_dictionary else page.values
    if values != chunk.num_values:
        raise ValueError(
            f"column {chunk.path_in_schema!r} has {values} values, and the footer claims "
            f"{chunk.num_values}"
        )
    return size, count


@dataclass(frozen=True, slots=True)
class _Page:
    """What a page claims: its bytes once decompressed, its values and their encoding."""

    size: int
    values: int
    encoding: int
    is_dictionary: bool


def _pages(content: bytes, chunk: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    """Yield the pages of a chunk.

    Raises:
        ValueError: If they are broken or lie outside of the file.
    """
    if not chunk.num_values:
        # Arrow reads no page then.
        return
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (start := chunk.dictionary_page_offset) < at:
        at = start
    end = at + chunk.total_compressed_size
    if not 0 < at <= end <= len(content):
        raise ValueError(f"column {chunk.path_in_schema!r} lies outside of the file")
    while at < end:
        try:
            header, length = _struct(content[at : at + _HEADER_BYTES], 0, _DEEPEST)
            kind = next(kind for kind in _KINDS if kind in header)
            values, encoding = (header[kind][field] for field in _KINDS[kind])
            size, stored = header[_DECOMPRESSED], header[_COMPRESSED]
            is_sound = min(size, stored, values) >= 0
        except (IndexError, KeyError, TypeError, StopIteration):
            is_sound = False
        if not is_sound:
            raise ValueError(f"column {chunk.path_in_schema!r} has a broken page")
        at += length + stored
        yield _Page(size, values, encoding, kind == _DICTIONARY)


# ---- Thrift's compact protocol -------------------------------------------------------------


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return a struct's fields by number, None for those of no interest, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := content[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(content, at)
        fields[number], at = _value(content, at, head & 15, depth)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # True, False
        return None, at
    if kind == 3:  # a byte
        return None, at + 1
    if kind in (4, 5, 6):
        return _integer(content, at)
    if kind == 7:  # a double
        return None, at + 8
    if kind == 8:  # bytes
        length, at = _unsigned(content, at)
        return None, at + length
    if kind == 12 and depth:
        return _struct(content, at, depth - 1)
    raise KeyError(kind)


def _integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(content, at)
    return (value >> 1) ^ -(value & 1), at


def _unsigned(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError(at)
