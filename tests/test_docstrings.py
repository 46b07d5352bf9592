"""Docstrings: every argument is described, every raised error is named, every objective has a source."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "selfsight"
ROOMS = ("api.py", "data", "objectives", "measure", "explain", "discover", "workflows")
SECTIONS = r"Args|Returns|Yields|Raises|Attributes|Example|Examples|Note|Notes|References|Source"
CITATION = re.compile(r"arXiv:\d{4}\.\d{4,5}|[A-Z]\w+[^.;]*?\b(19|20)\d\d\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _files(*rooms: str) -> list[str]:
    paths = [path for room in rooms for path in ([SOURCE / room] if room.endswith(".py") else sorted((SOURCE / room).rglob("*.py")))]
    return [path.relative_to(SOURCE).as_posix() for path in paths]


@cache
def _classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def _inherits_docstring(owner: ast.ClassDef, name: str) -> bool:
    """Whether a base class within selfsight, found by its name, documents the method."""
    for base in owner.bases:
        target = base.value if isinstance(base, ast.Subscript) else base
        found = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        for parent in _classes().get(found, []):
            methods = [node for node in parent.body if isinstance(node, Function) and node.name == name]
            if any(ast.get_docstring(node) for node in methods) or _inherits_docstring(parent, name):
                return True
    return False


def _implements_protocol(function: Function) -> bool:
    """Whether a protocol within selfsight documents a method of the same name and arguments."""
    protocols = [node for nodes in _classes().values() for node in nodes if any("Protocol" in ast.unparse(base) for base in node.bases)]
    methods = [node for protocol in protocols for node in protocol.body if isinstance(node, Function) and node.name == function.name]
    return any(ast.get_docstring(node) and _arguments(node) == _arguments(function) for node in methods)


def _public(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node, None
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [method for method in node.body if isinstance(method, Function)]
            yield from ((method, node) for method in methods if not method.name.startswith("_") or method.name.endswith("__"))


def _arguments(function: Function) -> list[str]:
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, *filter(None, [spec.vararg]), *spec.kwonlyargs, *filter(None, [spec.kwarg])]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def _entries(docstring: str, section: str) -> list[str] | None:
    """The names of a section's entries, without stars; None if there is no such section."""
    found = re.search(rf"^{section}:\n(.*?)(?=^(?:{SECTIONS}):|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return None if found is None else re.findall(r"^    \*{0,2}([\w.]+)(?: \([^)]*\))?:", found[1], re.MULTILINE)


def _raised(node: ast.AST) -> set[str]:
    """Names of the exceptions that a body raises; not those of nested functions, nor a caught one that is raised again."""
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            name = ast.unparse(child.exc.func if isinstance(child.exc, ast.Call) else child.exc).split(".")[-1]
            names |= {name} if name[:1].isupper() else set()
        names |= _raised(child)
    return names


def _faults(function: Function, owner: ast.ClassDef | None) -> list[str]:
    wanted, docstring = _arguments(function), ast.get_docstring(function)
    overload = any(ast.unparse(decorator).endswith("overload") for decorator in function.decorator_list)
    if len(wanted) < 2 or overload:
        return []
    if docstring is None:
        inherited = owner is not None and (_inherits_docstring(owner, function.name) or _implements_protocol(function))
        excused = inherited or function.name.startswith("__")
        return [] if excused else ["no docstring"]
    given = _entries(docstring, "Args")
    if given is None:
        return ["no Args section"]
    faults = [f"no entry for {name}" for name in wanted if name not in given]
    faults += [f"entry for {name}, which is no argument" for name in given if name not in wanted]
    return faults + [f"Raises does not name {name}" for name in sorted(_raised(function) - set(_entries(docstring, "Raises") or []))]


@pytest.mark.parametrize("file", _files(*ROOMS))
def test_arguments_and_errors_are_documented(file: str) -> None:
    tree = ast.parse((SOURCE / file).read_text())
    faults = [(f"{file}:{function.lineno} {function.name}", _faults(function, owner)) for function, owner in _public(tree)]
    assert not [fault for fault in faults if fault[1]]


@pytest.mark.parametrize("file", _files("objectives"))
def test_objectives_have_sources(file: str) -> None:
    tree = ast.parse((SOURCE / file).read_text())
    module = ast.get_docstring(tree) or ""
    assert not [node.name for node, _ in _public(tree) if not CITATION.search(f"{module} {ast.get_docstring(node) or ''}")]
