"""Print the table of docs/notebook/2026-11-27-situations.md from the tests beside this file.

A test's name is the situation, its docstring the report and what a user expects. A situation holds
unless its test is expected to fail; it was mended where the docstring says so after the report.

    python tests/situations/table.py
"""

import ast
import sys
from pathlib import Path

FILES = ("test_studies.py", "test_sweeps.py", "test_optimizers.py")


def situations(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def outcome(test: ast.FunctionDef, mended: bool) -> str:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(".xfail"):
            (reason,) = (k.value for k in decorator.keywords if k.arg == "reason")
            return f"falls short: {ast.literal_eval(reason)}"
    return "mended" if mended else "holds"


def row(test: ast.FunctionDef) -> tuple[str, str, str, str]:
    report, expected = (ast.get_docstring(test) or "").split(": ", 1)
    report, _, mended = report.partition(", ")
    title = test.name.removeprefix("test_").replace("_", " ")
    return title, report, expected.rstrip("."), outcome(test, mended == "mended")


def main() -> None:
    number = 0
    for name in FILES:
        sys.stdout.write(f"\n## {name}\n\n| | situation | report | expected | outcome |\n")
        sys.stdout.write("| --- | --- | --- | --- | --- |\n")
        for test in situations(Path(__file__).with_name(name)):
            number += 1
            sys.stdout.write("| " + " | ".join((str(number), *row(test))) + " |\n")


if __name__ == "__main__":
    main()
