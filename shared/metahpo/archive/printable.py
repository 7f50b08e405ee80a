"""Text of others, safe to print."""


def printable(text: str) -> str:
    r"""Return a text with what a terminal might obey or cannot show as escapes (``\x1b``).

    Names come from files of others: control characters move the cursor or colour the terminal,
    marks of writing direction reorder a line, and lone surrogates cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
