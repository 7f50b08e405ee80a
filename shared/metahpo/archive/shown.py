"""What may be shown of a source: its name without secrets, and texts without control characters.

Names of sources go into errors, warnings, logs, archives and recommendations. Whatever leaves for
one of these goes through this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"
# A name that somebody chose may be megabytes long; a message is not.
LONGEST_MESSAGE = 2000

# What precedes user and password: "://", and how people mistype it; also percent-encoded.
_START = r"(?:[:;][/\\]+|//|%3A(?:%2F)+|\b[a-z][\w+.-]*:(?!:|[^:/@\s]*:/))"
# A password may itself hold ":", "/" or "@" where somebody forgot to escape it.
_USER = r"[^:/@\s%]*"
_USER_AND_PASSWORD = re.compile(rf"({_START}{_USER})(:|%3A)(?P<secret>\S*)(?=@|%40)", re.I)
_LONE_START = re.compile(rf"({_START}{_USER})(?::|%3A)(?P<secret>.*)(?:@|%40)", re.I | re.S)
# A user name of such length is an access token.
_TOKEN = re.compile(r"((?:[:;][/\\]+|//))(?P<secret>[^:/@\s]{20,})(?=@)")
_NAMES = "pass|pwd|secret|token|sig|credential|key|auth|sas|jwt|session"
_IN_QUERY = r"(?:[?&;#]|%3F|%26|%3B)"
# Its value ends at the next option or blank, but for the punctuation of the sentence around it.
_VALUE = r"(?P<secret>[^&\s]*?)(?=['\")\]}>,.;:]*(?:&|\s|$))"
_OPTION = re.compile(
    rf"({_IN_QUERY}(?:(?!{_IN_QUERY})[^=\s])*?(?:{_NAMES})(?:(?!{_IN_QUERY})[^=\s])*?(?:=|%3D))"
    rf"{_VALUE}",
    re.I,
)
# As in the connection strings that drivers print: "host=h password=p".
_WORD = re.compile(rf"((?<![\w/])\w*(?:password|passwd|pwd|secret|token)\w*=){_VALUE}", re.I)
_DELIMITERS = re.compile(r"[\W_]+")
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
    for part in sorted(_parts(source, _SHORTEST_PART), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", HIDDEN, text)
    text = _USER_AND_PASSWORD.sub(rf"\1\2{HIDDEN}", text)
    for pattern in (_TOKEN, _OPTION, _WORD):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


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
    lines = str(error).splitlines()
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
    # The source is one URL as a whole, so that a password in it may hold blanks.
    for pattern in (_LONE_START, _TOKEN, _OPTION, _WORD):
        yield from (found["secret"] for found in pattern.finditer(source) if found["secret"])


def _parts(source: str, shortest: int) -> set[str]:
    """Return a source's secrets and their parts, as they are, decoded and encoded."""
    parts: set[str] = set()
    for secret in _secrets(source):
        forms = {secret, unquote(secret), quote(secret, safe=""), repr(secret)[1:-1]}
        parts |= forms
        for form in forms:
            parts |= {p for p in _DELIMITERS.split(form) if len(p) >= shortest}
    return parts
