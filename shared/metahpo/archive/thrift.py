"""Thrift's compact protocol, in which Parquet writes its footers and the headers of its pages.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

# Structs and lists within each other; Parquet's have six.
_DEEPEST = 12


def read_struct(data: bytes) -> tuple[dict[int, Any], int]:
    """Return the struct that begins some bytes, and its length.

    Args:
        data: What is not trusted; time and memory are proportional to it.

    Returns:
        Integers, bytes, lists and structs by the number of their field; None for other values.

    Raises:
        ValueError: If there is no complete struct.
    """
    try:
        return _struct(data, 0, _DEEPEST)
    except (IndexError, KeyError) as error:
        raise ValueError("a broken struct") from error


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        kind = head & 15
        # A truth value is in its kind.
        fields[number], at = (None, at) if kind in (1, 2) else _value(data, at, kind, depth)
    return fields, at + 1


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    count, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if count == 15:
        count, at = _unsigned(data, at)
    if count > len(data) - at:
        raise IndexError(count)
    values: list[Any] = []
    for _ in range(count):
        value, at = _value(data, at, 3 if kind in (1, 2) else kind, depth)
        values.append(value)
    return values, at


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind == 3:  # a byte
        return None, at + 1
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind == 7:  # a double
        return None, at + 8
    if kind == 8:
        length, at = _unsigned(data, at)
        return data[at : at + length], at + length
    if kind == 9 and depth:
        return _list(data, at, depth - 1)
    if kind == 12 and depth:
        return _struct(data, at, depth - 1)
    raise KeyError(kind)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError(at)
