"""Every Python block of the documentation runs, page by page; the method in CONTRIBUTING is added and trained."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```python" in page.read_text())


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, where torch is loaded and calls are checked, with names of its own and in an empty folder."""
    assert not any(Path().iterdir())
    exec(compile("\n".join(blocks(page)), page, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_contributed_method_learns(tmp_path: Path) -> None:
    """The two files of CONTRIBUTING are put into a copy of the package, and the new method is trained by its name."""
    method, line = blocks(ROOT / "CONTRIBUTING.md")
    copy = tmp_path / "selfsight"
    shutil.copytree(ROOT / "src" / "selfsight", copy)
    (copy / "methods" / "distillation" / "ressl.py").write_text(method)
    table = copy / "methods" / "table.py"
    table.write_text(table.read_text().replace('        Entry("swav"', f'        {line.strip()},\n        Entry("swav"'))
    command = [
        "learn",
        "world:shapes?count=128&size=32",
        "--method",
        "ressl",
        "--steps",
        "2",
        "--batch",
        "32",
        "--dim",
        "64",
        "--no-report",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "selfsight", *command, "--out", "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    config = (tmp_path / "run" / "config.json").read_text()
    assert '"method": "ressl"' in config
    assert '"dim": 64' in config


def test_links_are_valid() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_generated_pages_are_current() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate
    finally:
        sys.path.pop(0)
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / "look-up" / name).read_text() == page(), f"{name} is stale: run scripts/docs"
