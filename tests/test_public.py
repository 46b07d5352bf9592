"""Public names are complete and sorted; imports are light; files and functions are small."""

import ast
import re
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules, walk_packages

import pytest

import selfsight
from selfsight.backbones.table import BACKBONES, build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.method import Method
from selfsight.core.representation import Backbone
from selfsight.methods.table import METHODS, method_class

SOURCE = Path(selfsight.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = [found.name for found in walk_packages([str(SOURCE)], "selfsight.") if not found.name.endswith("__main__")]
HEAVY = ("torch", "timm", "sklearn", "torchvision", "scipy", "matplotlib", "PIL", "tyro")


def place(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Constants, classes, functions; then by name, numbers by their value (the order that the linter keeps)."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def listed(name: str) -> list[str] | None:
    return getattr(import_module(name), "__all__", None)


@pytest.mark.parametrize("name", ["selfsight", *MODULES])
def test_public_names_exist_and_are_sorted(name):
    module, names = import_module(name), listed(name)
    path = Path(module.__file__ or "")
    if names is None:
        assert path.name == "__init__.py", f"{name} has no __all__"
        return
    assert names == sorted(names, key=place)
    assert len(set(names)) == len(names)
    assert all(hasattr(module, one) for one in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_public_names_are_imported(path):
    """No file imports an underscored name of another."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfsight"):
            assert not [one.name for one in node.names if one.name.startswith("_") and one.name != "__version__"]


def test_registry_of_methods_is_complete_and_sorted():
    assert list(METHODS) == sorted(METHODS)
    package = import_module("selfsight.methods")
    files = {
        f"{family.name}.{module.name}"
        for family in iter_modules(package.__path__)
        if family.ispkg
        for module in iter_modules([str(SOURCE / "methods" / family.name)])
    }
    assert files == {entry.target.partition(":")[0] for entry in METHODS.values()}
    for name in METHODS:
        kind = method_class(name)
        assert issubclass(kind, Method)
        assert listed(kind.__module__) == [kind.__name__]
        assert METHODS[name].target.partition(":")[0].rpartition(".")[2] == name


def test_registry_of_backbones_is_complete_and_sorted():
    assert list(BACKBONES) == sorted(BACKBONES)
    import torch

    for name in BACKBONES:
        with torch.device("meta"):
            assert isinstance(build_backbone(name, size=32), Backbone)
    with pytest.raises(UsageError, match="no backbone 'resnet_tny'") as refusal:
        build_backbone("resnet_tny", size=32)
    assert "resnet_tiny" in refusal.value.remedy
    with pytest.raises(UsageError, match="no option 'deep'"):
        build_backbone("resnet_tiny?deep=3", size=32)


def loaded(statement: str) -> set[str]:
    """Heavy packages that a statement loads in a fresh interpreter."""
    words = f"import sys\n{statement}\nprint('loaded:', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:]) & set(HEAVY)


@pytest.mark.parametrize(
    "statement",
    [
        "import selfsight",
        "import selfsight.cli; assert selfsight.cli.main(['--help']) == 0",
        "import selfsight.cli; assert selfsight.cli.main(['--version']) == 0",
        "import selfsight.cli; assert selfsight.cli.main(['lern']) == 2",
        "import selfsight.methods.table, selfsight.backbones.table, selfsight.core.errors, selfsight.workflows.train.request",
    ],
)
def test_light_imports_load_no_heavy_package(statement):
    assert loaded(statement) == set()


@pytest.mark.parametrize("command", [["-c", "import selfsight"], ["-m", "selfsight", "--help"]])
def test_light_imports_are_fast(command):
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - before)
    assert min(seconds) < 0.5


def test_importing_does_nothing():
    """Torch is loaded where it is needed, so that the tests above can fail."""
    words = "import os, torch; before = dict(os.environ), torch.get_num_threads(), int(torch.get_rng_state().sum()); import selfsight.api; "
    words += "assert before == (dict(os.environ), torch.get_num_threads(), int(torch.get_rng_state().sum()))"
    assert "torch" in loaded(words)


def test_the_compiler_is_loaded_only_when_used():
    """Loading it takes seconds."""
    words = "import sys, selfsight.api; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_package_exports_the_api():
    assert selfsight.__all__ == ["Run", "compare", "learn", "load", "open", "wrap"]
    assert set(selfsight.__all__) <= set(dir(selfsight))
    api = import_module("selfsight.api")
    assert all(getattr(selfsight, name) is getattr(api, name) for name in selfsight.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lern'"):
        selfsight.lern  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    inside = path.relative_to(SOURCE)
    most = 90 if inside.parts[0] == "methods" and len(inside.parts) == 3 else 400
    assert len(text.splitlines()) <= most
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 40, f"{node.name} has {lines} lines"


ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for folder in ("recipes", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))


def test_scripts_import_names_that_exist() -> None:
    missing = []
    for script in SCRIPTS:
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfsight"):
                module = import_module(node.module or "")
                missing += [
                    f"{script.name}: {node.module}.{name.name}"
                    for name in node.names
                    if not hasattr(module, name.name) and find_spec(f"{node.module}.{name.name}") is None
                ]
    assert len(SCRIPTS) > 20
    assert missing == []
