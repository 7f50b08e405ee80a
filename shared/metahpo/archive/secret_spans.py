"""Where the secrets in a text are: passwords of URLs, access tokens, options whose names say so.

The texts are other people's and may be megabytes long, so that the time is linear in their length:
every pattern begins and ends at characters that it cannot run across, and its repeats never go
back (``*+``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

Span = tuple[int, int]

# Schemes that people write without any slash. After others, "a:b:c@d" is a name.
_SCHEMES = (
    "postgres(?:ql)?|cockroachdb|mysql|mariadb|oracle|mssql|sqlite|rediss?|mongodb|s?ftp|https?|"
    "ssh|smb|s3|gcs|gs|abfss?|hdfs|webhdfs|webdav"
)
# What precedes user and password: "://", and how people mistype it; also percent-encoded.
_START = (
    r"(?:[:;][/\\]++|//|%3A(?:%2F)++|"
    rf"(?<![\w+.-])(?:{_SCHEMES})(?:\+[\w.-]*+)?:(?!:|[^:/@\s]*+:/))"
)
_USER = r"(?:[^:;/@\s%]|;(?![/\\])|%(?!3A))*+"
# "user@server" is a user, too, unless a port follows.
_LONG_USER = rf"{_USER}@{_USER}"
_BEFORE_PASSWORD = re.compile(
    rf"{_START}(?:{_USER}(?::|%3A)|{_LONG_USER}(?::|%3A)(?!\d{{1,5}}/))", re.I
)
# A user name of such length is an access token.
_TOKEN = re.compile(r"(?:[:;][/\\]++|//)(?P<secret>[^:;/\\@\s]{20,}+)@")
_RUN = re.compile(r"\S+")

# "?name=", "&name=", also percent-encoded.
_NAME = r"(?P<name>(?:[^?&;#=\s%]|%(?!3[FBD]|26))*+)"
_OPTION = re.compile(rf"(?:[?&;#]|%3F|%26|%3B){_NAME}(?:=|%3D)", re.I)
_VALUE, _LONE_VALUE = re.compile(r"[^&\s]*+"), re.compile(r"[^&]*+")
# As in the connection strings that drivers print: "host=h password = 'p q'".
_WORD = re.compile(r"(?<![\w/])(?P<name>\w++)[ \t]*+=(?!=)[ \t]*+")
_QUOTED_VALUE = re.compile(
    r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"|\\'[^']*+'|\\\"[^\"]*+\"|[^&\s]*+", re.S
)
_PUNCTUATION = "'\")]}>,.;:"
# Words of options' names, whole ones and how they end: neither "tokenizer" nor "max_tokens".
_SECRET_WORD = re.compile(
    r".*(?:password|passwd|passphrase|pwd|secret|token|(?:api|access|account|secret)key)\d*"
)
_SECRET_OPTION = re.compile(
    r"(?:pass|sig|key|auth|authorization|sas|jwt|session|sessionid)|.*(?:signature|credentials?)"
)
_DELIMITERS = re.compile(r"[\W_]+")


def secret_spans(text: str, *, lone: bool = False) -> list[Span]:
    """Return where the secrets in a text begin and end, in order and without overlaps.

    Args:
        text: Any text, with any number of URLs in it.
        lone: Whether the text is a source's name as a whole, so that a password may hold blanks.
    """
    found = [*_passwords(text, lone), *_tokens(text), *_options(text, lone), *_words(text)]
    spans: list[Span] = []
    for start, end in sorted(span for span in found if span[0] < span[1]):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def _passwords(text: str, lone: bool) -> Iterator[Span]:
    runs = [(0, len(text))] if lone else [run.span() for run in _RUN.finditer(text)]
    for start, end in runs:
        # A password may itself hold ":", "/" or "@" where somebody forgot to escape it.
        last = max(text.rfind("@", start, end), text.rfind("%40", start, end))
        before = _BEFORE_PASSWORD.search(text, start, last) if last >= 0 else None
        if before:
            yield before.end(), last


def _tokens(text: str) -> Iterator[Span]:
    return (found.span("secret") for found in _TOKEN.finditer(text))


def _options(text: str, lone: bool) -> Iterator[Span]:
    secret = (o for o in _OPTION.finditer(text) if _is_secret(unquote(o["name"]), of_url=True))
    return _values(text, secret, _LONE_VALUE if lone else _VALUE)


def _words(text: str) -> Iterator[Span]:
    secret = (word for word in _WORD.finditer(text) if _is_secret(word["name"], of_url=False))
    return _values(text, secret, _QUOTED_VALUE)


def _values(text: str, names: Iterable[re.Match[str]], value: re.Pattern[str]) -> Iterator[Span]:
    """Yield the values behind names; a name within the value before it is part of that."""
    end = 0
    for name in names:
        found = value.match(text, name.end()) if name.start() >= end else None
        if found:
            end = found.end()
            # Less the punctuation of the sentence around it.
            yield name.end(), name.end() + len(found[0].rstrip(_PUNCTUATION))


def _is_secret(name: str, *, of_url: bool) -> bool:
    words = _DELIMITERS.split(name.lower())
    if any(_SECRET_WORD.fullmatch(word) for word in words):
        return True
    return of_url and any(_SECRET_OPTION.fullmatch(word) for word in words)
