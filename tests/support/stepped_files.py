"""File systems in memory whose every access is a step of an actor, or takes its time."""

from collections.abc import Callable

from fsspec.implementations.memory import MemoryFileSystem


class SteppedFiles(MemoryFileSystem):
    """An object store: no renames, and whole objects.

    Args:
        turn: Called before each access.
    """

    cachable = False

    def __init__(self, turn: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.turn = turn

    def ls(self, path, detail=True, **options):
        self.turn()
        return super().ls(path, detail=detail, **options)

    def pipe_file(self, path, value, mode="overwrite", **options):
        self.turn()
        super().pipe_file(path, value, mode, **options)

    def cat_file(self, path, start=None, end=None, **options):
        self.turn()
        return super().cat_file(path, start, end, **options)

    def rm_file(self, path):
        self.turn()
        try:
            super().rm_file(path)
        except KeyError:
            raise FileNotFoundError(path) from None


class RenamingFiles(SteppedFiles):
    """A file system like that of a disk: with a rename that is one step."""

    def mv(self, path1, path2, **options):
        self.turn()
        try:
            self.store[path2] = self.store.pop(path1)
        except KeyError:
            raise FileNotFoundError(path1) from None


class CopyingFiles(SteppedFiles):
    """One whose rename is a copy and a removal, in two steps."""

    def mv(self, path1, path2, **options):
        self.turn()
        self.cp_file(path1, path2)
        self.rm_file(path1)
