"""How the code is built: the walk of one suggestion, sizes, module constants.

    python -m benchmarks.structure walk         # files entered by one suggestion, in order
    python -m benchmarks.structure sizes        # lengths of functions and files, by package
    python -m benchmarks.structure constants    # module constants that decide a suggestion

It uses nothing else of ``benchmarks``, so that it measures any checkout whose packages come first
on the path:

    PYTHONPATH=OLD:OLD/shared python -P benchmarks/structure.py walk
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

PACKAGES = ("optuna_meta", "raytune_meta", "metahpo")
# Modules whose constants decide what is suggested; a package stands for all its modules.
CHAIN = (
    "metahpo.suggest",
    "metahpo.surrogate.registry",
    "metahpo.surrogate.pretrained_family",
    "metahpo.surrogate.neural.neural_surrogate",
    "metahpo.surrogate.gp.gp_family",
    "metahpo.surrogate.gp.gp_surrogate",
    "metahpo.surrogate.mixture",
    "metahpo.surrogate.aligned_history",
    "metahpo.surrogate.study_arrays",
)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]+")


# ---- the walk of one suggestion ------------------------------------------------------------


def walk(options: argparse.Namespace) -> None:
    """Print the files that one suggestion enters, and how often it comes back to one."""
    import_all("optuna_meta", "metahpo")
    study, space = example_study(options.surrogate)
    calls, first_calls = record_calls(lambda: study.ask(space))
    entries, reading = Counter(map(_file_of, changes(calls))), changes(first_calls)
    files = list(dict.fromkeys(map(_file_of, calls)))
    print("| | file | functions | entries |\n| --- | --- | --- | --- |")
    functions = Counter(map(_file_of, first_calls))
    for place, file in enumerate(files, 1):
        print(f"| {place} | {file} | {functions[file]} | {entries[file]} |")
    print(
        f"\n{len(files)} files, {len(first_calls)} functions. Returns to a file left before: "
        f"{len(reading) - len(files)} when each function is read once, where it is first called; "
        f"{entries.total() - len(files)} in all calls."
    )


def example_study(surrogate: str | None) -> tuple[Any, dict[str, Any]]:
    """A seeded study of 8 trials beside two finished ones of 20, and its search space."""
    import optuna

    from optuna_meta import MetaSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, Any] = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
        "layers": optuna.distributions.IntDistribution(1, 5),
        "activation": optuna.distributions.CategoricalDistribution(("relu", "tanh")),
    }
    storage = optuna.storages.InMemoryStorage()
    rng = np.random.default_rng(0)
    settings = {} if surrogate is None else {"surrogate": surrogate}
    for name, count, best in (("first", 20, -2.0), ("second", 20, -2.5), ("present", 8, -2.2)):
        study = optuna.create_study(
            storage=storage, study_name=name, sampler=MetaSampler(seed=0, **settings)
        )
        for _ in range(count):
            study.add_trial(_random_trial(space, best, rng))
    return study, space


def _random_trial(space: dict[str, Any], best: float, rng: np.random.Generator) -> Any:
    from optuna.trial import create_trial

    exponent, layers = float(rng.uniform(-5, 0)), int(rng.integers(1, 6))
    activation = ("relu", "tanh")[int(rng.integers(2))]
    value = (exponent - best) ** 2 + 0.1 * abs(layers - 3) + 0.2 * (activation == "tanh")
    params = {"learning_rate": 10.0**exponent, "layers": layers, "activation": activation}
    return create_trial(params=params, distributions=space, value=value)


def import_all(*packages: str) -> None:
    """Import all modules of packages: what importing one calls is no step of a suggestion."""
    for package in packages:
        folder = package_folder(package)
        for path in modules_of(package):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            if parts[-1] != "__main__":
                import_module(".".join(parts))


def record_calls(action: Callable[[], object]) -> tuple[list[CodeType], list[CodeType]]:
    """The project's functions that an action calls.

    Returns:
        All calls in order, and each function once, in the order of its first call.
    """
    roots = tuple(f"{folder}/" for folder in map(package_folder, PACKAGES))
    calls: list[CodeType] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(roots):
            calls.append(frame.f_code)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls, list(dict.fromkeys(calls))


def changes(calls: Sequence[CodeType]) -> list[CodeType]:
    """The calls that go from one file to another, and the first one."""
    previous = [None, *(code.co_filename for code in calls)]
    return [code for code, file in zip(calls, previous, strict=False) if code.co_filename != file]


def _file_of(code: CodeType) -> str:
    return shown_path(Path(code.co_filename))


# ---- sizes ---------------------------------------------------------------------------------


def sizes(options: argparse.Namespace) -> None:
    """Print how long functions and files are, docstrings included."""
    by_room: dict[str, list[Path]] = {}
    everything = [path for package in PACKAGES for path in modules_of(package)]
    for path in everything:
        by_room.setdefault(room_of(path), []).append(path)
    print("Median / 90th percentile of lines.\n")
    print("| package | files | lines | a file | functions | a function |")
    print("| --- | --- | --- | --- | --- | --- |")
    for room, paths in [*sorted(by_room.items()), ("all", everything)]:
        files = [len(path.read_text().splitlines()) for path in paths]
        functions = [length for path in paths for length in function_lengths(path)]
        print(
            f"| {room} | {len(files)} | {sum(files)} | {_summary(files)} | {len(functions)} | "
            f"{_summary(functions)} |"
        )


def room_of(path: Path) -> str:
    """The package of a file; of ``metahpo``, the package within it."""
    parts = shown_path(path).split("/")
    return "/".join(parts[:2]) if parts[0] == "metahpo" and len(parts) > 2 else parts[0]


def function_lengths(path: Path) -> list[int]:
    """Lines of each function of a file, nested ones included, decorators left out."""
    return [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]


def _summary(lengths: list[int]) -> str:
    if not lengths:
        return ""
    median, high = np.quantile(lengths, [0.5, 0.9])
    return f"{median:.0f} / {high:.0f}"


# ---- constants -----------------------------------------------------------------------------


def constants(options: argparse.Namespace) -> None:
    """Print how many module constants there are, and their names."""
    total = 0
    for module in options.modules:
        for path in modules_of(module):
            names = constants_of(path)
            total += len(names)
            if names:
                print(f"{shown_path(path)}: {len(names)} ({', '.join(names)})")
    print(f"{total} module constants")


def constants_of(path: Path) -> list[str]:
    """The names in capitals that a file assigns at its top level."""
    statements = ast.parse(path.read_text()).body
    return [name for node in statements for name in _assigned(node) if CONSTANT.fullmatch(name)]


def _assigned(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    yield node.id


# ---- files ---------------------------------------------------------------------------------


def package_folder(package: str) -> Path:
    """Where a package is.

    Raises:
        SystemExit: If there is none.
    """
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise SystemExit(f"no package called {package} on the path")
    return Path(spec.origin).parent


def modules_of(name: str) -> list[Path]:
    """The file of a module, or all files of a package.

    Raises:
        SystemExit: If there is no module of that name.
    """
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin:
        raise SystemExit(f"no module called {name} on the path")
    origin = Path(spec.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]


def shown_path(path: Path) -> str:
    """A file's path from its package on."""
    for package in PACKAGES:
        folder = package_folder(package)
        if path.is_relative_to(folder):
            return path.relative_to(folder.parent).as_posix()
    return str(path)


# ---- command line --------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.structure", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    walking = commands.add_parser("walk", help="the files that one suggestion enters, in order")
    walking.add_argument("--surrogate", help="of the sampler, such as gp; by default its own")
    walking.set_defaults(command=walk)
    sizing = commands.add_parser("sizes", help="how long functions and files are, by package")
    sizing.set_defaults(command=sizes)
    counting = commands.add_parser("constants", help="the module constants, by module")
    counting.add_argument(
        "modules",
        nargs="*",
        default=CHAIN,
        help="modules and packages; by default those that decide a suggestion",
    )
    counting.set_defaults(command=constants)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen command."""
    options = parse(arguments)
    options.command(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
