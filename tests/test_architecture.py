"""Package layout: no cycles, one test folder per package, little repetition, a current page."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfsight"
ROOMS = sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").is_file())
WINDOW = 5
"""Lines that make a repetition."""


def _modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _typing_only(tree: ast.AST) -> set[ast.AST]:
    """Nodes below ``if TYPE_CHECKING``."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")]
    return {inside for guard in guards for statement in guard.body for inside in ast.walk(statement)}


def _imports(path: Path, known: dict[str, Path]) -> set[str]:
    tree = ast.parse(path.read_text())
    skipped = _typing_only(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in skipped and node.module:
            names = {f"{node.module}.{one.name}" for one in node.names} & known.keys()
            found |= names or ({node.module} & known.keys())
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph.get(node, ()):
                found.append(sorted(group))

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 5000))
    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_there_are_no_import_cycles():
    known = _modules()
    assert cycles({name: _imports(path, known) - {"selfsight"} for name, path in known.items()}) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_package_has_tests(room):
    assert list((ROOT / "tests" / room).rglob("test_*.py"))


def _code(path: Path) -> list[str]:
    """Lines without docstrings, comments, imports and empty ones; of a signature the first, as its formatting is not a repetition."""
    text, left_out = path.read_text(), set[int]()
    for node in ast.walk(ast.parse(text)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out |= set(range(node.lineno + 1, node.body[0].lineno))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out]
    return [line for line in lines if line and not line.startswith("#")]


def repetition(files: list[list[str]]) -> float:
    """The fraction of lines that lie in a window of ``WINDOW`` lines that occurs twice or more."""
    windows = Counter(tuple(lines[start : start + WINDOW]) for lines in files for start in range(len(lines) - WINDOW + 1))
    repeated = 0
    for lines in files:
        marked: set[int] = set()
        for start in range(len(lines) - WINDOW + 1):
            if windows[tuple(lines[start : start + WINDOW])] > 1:
                marked |= set(range(start, start + WINDOW))
        repeated += len(marked)
    return repeated / max(sum(map(len, files)), 1)


def test_repetition_is_measured():
    assert repetition([list("abcdefgh"), list("xyzwvuts")]) == 0
    assert repetition([list("abcdefgh"), list("abcdexyz")]) == pytest.approx(10 / 16)


@pytest.mark.parametrize("room", ROOMS)
def test_packages_repeat_little(room):
    assert repetition([_code(path) for path in sorted((SOURCE / room).rglob("*.py"))]) < 0.05


def test_the_page_of_the_architecture_is_current():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import architecture
    finally:
        sys.path.remove(str(ROOT / "docs"))
    assert architecture.PAGE.read_text() == architecture.page()  # which checks that every function exists
    assert set(architecture.PACKAGES) == {*ROOMS, "api"}
    with pytest.raises(AttributeError):
        architecture.steps([("selfsight.data.loader:no_such_function", "")])


def test_paths_in_the_table_of_changes_exist():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import architecture
    finally:
        sys.path.remove(str(ROOT / "docs"))
    for _, words in architecture.CHANGES:
        for place in (
            part for part in words.split("`")[1::2] if part.startswith(("methods/table", "backbones/table", "data/readers", "cli/__"))
        ):
            assert (SOURCE / place).exists() or "NAME" in place
