"""Names of version 0.1 that are not terms of the field do not occur: classes, functions, modules, fields, keywords."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORMER = {
    "Accompanied", "companions", "diverse", "floor_bars", "floors", "ground_grain", "learnt_from", "lend", "manner", "players", "strongest",
    "Bars", "Cast", "Maximised", "Placing", "Shared", "Steady", "by_picture", "carried", "chances", "cue_pictures", "dice", "finetuned",
    "neighbours_share", "object_alone", "part_kept", "remembers", "some_turned", "steady", "undecayed", "writing",
    "BeginsFull", "SharedOut", "co_segmented", "deceive", "distance_between", "four_bars", "missing_deviation", "neighbours_agree",
    "put_back", "shared_out", "shared_out_in_parts", "slope_penalty", "spread_of_table", "spread_of_tables", "tell_apart", "tell_pairs",
    "told_from_bank", "told_right", "transported", "turned_at_random",
    "Asked", "BLIND", "Clustered", "Examination", "Found", "INSIDE", "Inverted", "Kept", "Labelled", "Look", "Looked", "Manner", "Moment",
    "NETWORKS", "Opened", "Painted", "Remembered", "SICK", "Say", "Seen", "Segmented", "Settings", "Shelf", "Shown", "Stepped", "WHOLE",
    "Wishes", "Writing", "anyone", "bank_of", "beside", "blind", "calm", "compare_networks", "denser", "described", "discovering",
    "encoder_of", "everyone", "examine", "exploring", "judge_boxes", "judge_kinds", "judge_parts", "known_kinds", "learn_run", "lone",
    "looks", "measure_network", "measuring", "noted", "pass_through", "revive", "say", "segment_pictures", "settle", "shared_mean",
    "signs", "speak", "tap", "to_plain", "vectors_of", "with_places", "works", "worth", "worth_labelling", "write_still", "written",
}  # fmt: skip


def names(path: Path) -> set[str]:
    """Names that a file defines, imports or passes as keywords, and the name of the file."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found |= {one.name for one in node.names} | set((node.module or "").split("."))
        elif isinstance(node, ast.keyword | ast.arg) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@pytest.mark.parametrize("top", ["src", "tests", "recipes", "benchmarks", "docs"])
def test_former_names_do_not_occur(top):
    left = {str(path.relative_to(ROOT)): sorted(names(path) & FORMER) for path in (ROOT / top).rglob("*.py")}
    assert {path: some for path, some in left.items() if some} == {}


def test_former_names_would_be_found(tmp_path):
    (tmp_path / "worth.py").write_text("from a.works import tap\n\n\ndef calm(signs):\n    open(say=1)\n\n\nclass Look:\n    lone: int\n")
    assert names(tmp_path / "worth.py") & FORMER == {"worth", "works", "tap", "calm", "signs", "say", "Look", "lone"}


def test_the_package_root_contains_only_the_api():
    root = ROOT / "src" / "selfsight"
    assert {path.name for path in root.iterdir() if path.is_file()} == {"__init__.py", "__main__.py", "api.py", "py.typed"}
