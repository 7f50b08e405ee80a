"""The command line: parses arguments, calls the library, prints. Computes nothing new.

``commands`` has the entry point and ``collect``, ``show`` and ``recommend``; ``train`` has
``metahpo train``; ``tables`` reads a user's data set, ``task_text`` formats tasks. Public:
``main``. Add a command as a function that adds a parser and one that runs it.
"""

from metahpo.cli.commands import main

__all__ = ["main"]
