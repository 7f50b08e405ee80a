"""What may be shown of a source: its name without secrets, and texts without control characters.

Names of sources go into errors, warnings, logs, archives and recommendations. Whatever leaves for
one of these goes through this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

from metahpo.archive.secret_spans import secret_spans

HIDDEN = "***"
# A name that somebody chose may be megabytes long; a message is not.
LONGEST_MESSAGE = 2000

# Of a source's name, characters in which secrets to look for elsewhere are sought.
_LONGEST_SOURCE = 10 * LONGEST_MESSAGE
_DELIMITERS, _WORD = re.compile(r"[\W_]+"), re.compile(r"\w+")
# Shorter parts of a password are also parts of many words.
_SHORTEST_PART = 3


def without_passwords(text: str, source: str = "") -> str:
    """Return a text in which secrets are replaced by ``***``.

    Secrets are passwords of URLs, whatever their scheme and whether or not that is spelt well,
    access tokens in place of a user, and options whose names say so (``password``,
    ``X-Amz-Signature``, ``sig``, ``token``).

    Args:
        text: Any text, with any number of URLs in it.
        source: The source that the text is about, if there is one: its secrets, and parts of them
            as drivers quote them, are replaced wherever they occur.
    """
    return _hidden(_without_parts(text, source), lone=False)


def shown_source(name: str) -> str:
    """Return the whole name of a source as it may be shown and kept: without its secrets."""
    return without_passwords(_hidden(name, lone=True), name)


def holds_secrets(source: str) -> bool:
    """Whether a source's name contains a password or another secret."""
    return any(True for _ in _secrets(source))


def reason_of(error: BaseException, source: str = "") -> str:
    """Return what an error of somebody else's code says, in one line without secrets.

    Args:
        error: The error.
        source: The source that was read. Where the message quotes a part of its secrets, only
            the error's class is returned.
    """
    kind = type(error).__name__
    lines = str(error)[:_LONGEST_SOURCE].splitlines()
    if not lines or any(part in lines[0] for part in _parts(source, 2)):
        return kind
    known = isinstance(error, OSError | ValueError)
    message = lines[0] if known else f"{kind}: {lines[0]}"
    return printable(without_passwords(message, source))


def cause_of(error: BaseException, source: str) -> BaseException | None:
    """Return an error for ``raise ... from``, or None where its traceback may show a secret."""
    return None if holds_secrets(source) else error


def printable(text: str) -> str:
    r"""Return a text on one line that a terminal can show and does not obey.

    Control characters, invisible ones, those that change the direction of writing, and lone
    surrogates become escapes such as ``\x1b``.
    """
    if text.isprintable():
        return text
    flat = text.replace("\r\n", " ").translate({ord(blank): " " for blank in "\n\r\t"})
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)


def message_of(text: str, source: str = "") -> str:
    """Return the message of an error or a warning: printable, of bounded length, no secrets."""
    # Far more than is shown, so that no secret is cut before its end is recognised.
    shown = printable(without_passwords(text[: 10 * LONGEST_MESSAGE], source))
    if len(shown) <= LONGEST_MESSAGE:
        return shown
    return f"{shown[:LONGEST_MESSAGE]} ... ({len(text)} characters)"


def encodable(name: str) -> str:
    """Return a name that UTF-8 can encode: lone surrogates become question marks."""
    return name.encode(errors="replace").decode()


def _secrets(source: str) -> Iterator[str]:
    source = source[:_LONGEST_SOURCE]
    spans = secret_spans(source, lone=True)
    return (source[start:end] for start, end in spans if source[start:end] != HIDDEN)


def _hidden(text: str, *, lone: bool) -> str:
    pieces: list[str] = []
    end = 0
    for start, next_end in secret_spans(text, lone=lone):
        pieces += text[end:start], HIDDEN
        end = next_end
    return "".join([*pieces, text[end:]])


def _without_parts(text: str, source: str) -> str:
    """Return a text without a source's secrets, and their parts as drivers quote them."""
    parts = _parts(source, _SHORTEST_PART)
    words = {part for part in parts if _DELIMITERS.search(part) is None}
    for part in sorted(parts - words, key=len, reverse=True):
        text = text.replace(part, HIDDEN) if len(part) >= _SHORTEST_PART else text
    # Whole words alone, and all at once, since a secret may have thousands.
    return _WORD.sub(lambda word: HIDDEN if word[0] in words else word[0], text) if words else text


def _parts(source: str, shortest: int) -> set[str]:
    """Return a source's secrets and their parts, as they are, decoded and encoded."""
    parts: set[str] = set()
    for secret in _secrets(source):
        forms = {secret, unquote(secret), quote(secret, safe=""), repr(secret)[1:-1]}
        parts |= forms
        for form in forms:
            parts |= {p for p in _DELIMITERS.split(form) if len(p) >= shortest}
    return parts
