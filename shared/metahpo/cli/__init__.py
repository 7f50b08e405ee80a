"""The command line: parses arguments, calls the library, prints.

``commands`` has ``collect``, ``show`` and ``recommend``; ``train`` has ``metahpo train``;
``tables`` reads a user's data set. Public: ``main``, the entry point. Nothing is computed here: a
new command parses and prints, and calls a room below.
"""

from metahpo.cli.commands import main

__all__ = ["main"]
