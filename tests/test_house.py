"""Bounds that keep the code easy to walk through; ``python -m tests.test_house`` prints figures."""

import ast
from pathlib import Path
from statistics import median

from tests.paths import ROOT

MOST_LINES, LEAST_DOCUMENTED, MOST_ENTRIES = 300, 0.95, 15
FILES = sorted(
    file
    for folder in ("docker", "kernels", "loadtests", "model", "server", "tests", "vimserve")
    for file in (ROOT / folder).rglob("*.py")
)
PRODUCT = [file for file in FILES if file.relative_to(ROOT).parts[0] != "tests"]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def functions(files: list[Path]) -> list[int]:
    """The lines of every function."""
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(n.end_lineno or 0) - n.lineno + 1 for n in nodes if isinstance(n, kinds)]


def public(file: Path) -> dict[str, bool]:
    """Whether each public module, class, function and method has a docstring."""
    tree = ast.parse(file.read_text())
    named = {str(file.relative_to(ROOT)): ast.get_docstring(tree) is not None} if tree.body else {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                named[f"{prefix}{node.name}"] = ast.get_docstring(node) is not None
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")

    visit(tree.body, f"{file.relative_to(ROOT)}:")
    return named


def documented() -> tuple[float, list[str]]:
    """The share of public names with a docstring, and those without."""
    every = {name: known for file in PRODUCT for name, known in public(file).items()}
    return sum(every.values()) / len(every), [name for name, known in every.items() if not known]


def test_no_file_is_too_long_to_know_one_s_way_in():
    assert [(file, lines(file)) for file in FILES if lines(file) > MOST_LINES] == []


def test_public_names_are_documented():
    share, missing = documented()
    assert share >= LEAST_DOCUMENTED, missing


def test_the_server_is_no_lobby():
    entries = [entry.name for entry in (ROOT / "server").iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, entries


if __name__ == "__main__":
    for title, files in (("product", PRODUCT), ("all", FILES)):
        sizes = {file: lines(file) for file in files}
        longest = max(sizes, key=lambda file: sizes[file])
        print(
            f"{title}: {len(files)} files, median {median(sizes.values()):g} lines, longest "
            f"{sizes[longest]} ({longest.relative_to(ROOT)}); median function "
            f"{median(functions(files)):g} lines"
        )
    print(f"public docstrings: {documented()[0]:.1%}; without: {', '.join(documented()[1])}")
