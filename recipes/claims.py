"""Tests of claims of the lectures: each with a criterion that was fixed before the run, and a figure; earlier criteria are reported.

    python recipes/claims.py                    # all without a result
    python recipes/claims.py --claims a,j       # some of them
    python recipes/claims.py --pages            # only rewrite docs/understand/claims.md

A result is recipes/claims/LETTER.json; it is computed again only with ``--again``. One thread; minutes per claim. Claims e and m use
real photographs: SELFSIGHT_SHARED_DATA is a folder with cifar10, ecssd, coco-sample and weights.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from claimed import attributing, clusters, collapse, contrast, cueing, features, moving, painting

from selfsight.core.errors import SelfsightError
from selfsight.core.origin import origin

HERE = Path(__file__).parent
RESULTS = HERE / "claims"
PAGE = HERE.parent / "docs" / "understand" / "claims.md"
PICTURES = PAGE.parent / "claims"
THEMES = (collapse, clusters, features, contrast, attributing, painting, moving, cueing)
CLAIMS = dict(sorted((letter, claim) for theme in THEMES for letter, claim in theme.CLAIMS.items()))


def make(letter: str) -> dict[str, Any]:
    """Test a claim; write its result and its figure."""
    claim, started = CLAIMS[letter], seconds_of_cores()
    with tempfile.TemporaryDirectory() as folder:
        found = claim.test(Path(folder))
    PICTURES.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    if found.draw is None:
        (PICTURES / f"{letter}.png").write_bytes(found.png)
    else:
        size = (7.2 if claim.wide == 1 else 4.6 * claim.wide, 3.4 * found.tall)
        figure, axes = plt.subplots(1, claim.wide, figsize=size, layout="constrained")
        found.draw(axes)
        figure.savefig(PICTURES / f"{letter}.png", dpi=110)
        plt.close(figure)
    here = origin()
    result = {
        "claim": letter,
        "criterion": claim.criterion,
        "holds": found.holds,
        "measured": found.measured,
        "seconds": round(seconds_of_cores() - started),
        "machine": here["processor"],
        "commit": here["commit"],
    }
    (RESULTS / f"{letter}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def seconds_of_cores() -> float:
    """CPU time of this process and of its finished child processes."""
    return sum(os.times()[:4])


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {shown(inner)}" for name, inner in value.items()) or "none"
    return str(value)


def listed(name: str, value: Any) -> list[str]:
    """A line of the page, or a table of several values."""
    if not isinstance(value, dict) or len(value) < 2:
        return [f"- {name}: {shown(value)}"]
    if all(isinstance(inner, dict) for inner in value.values()):
        columns = list(next(iter(value.values())))
        rows = [f"| {row} | {' | '.join(shown(inner.get(column, '')) for column in columns)} |" for row, inner in value.items()]
        return ["", f"| {name} | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}", *rows, ""]
    side = "---" if any(isinstance(inner, str) for inner in value.values()) else "--:"
    return ["", f"| {name} | |", f"|---|{side}|", *(f"| {row} | {shown(inner)} |" for row, inner in value.items()), ""]


def all_listed(measured: dict[str, Any]) -> list[str]:
    """All measured values; one table if they have the same structure."""
    kinds = {tuple((name, type(inner)) for name, inner in value.items()) if isinstance(value, dict) else () for value in measured.values()}
    alike = len(measured) > 1 and len(kinds) == 1 and all(kind is not dict for _, kind in next(iter(kinds)))
    return listed("measured", measured) if alike else [line for name, value in measured.items() for line in listed(name, value)]


def write_page() -> None:
    lines = [
        "# Claims, tested",
        "",
        "Written by `recipes/claims.py`; do not edit. Unless stated otherwise: 4,000 training scenes of `world:shapes` at 32 px,",
        "2,000 test scenes, one seed. A claim that does not hold here may hold under other conditions, and vice versa.",
    ]
    for letter, claim in CLAIMS.items():
        path = RESULTS / f"{letter}.json"
        lines += ["", f"## {letter.upper()}. {claim.title}", "", f"Criterion: {claim.criterion}.", ""]
        if not path.is_file():
            lines.append("Not run yet.")
            continue
        result = json.loads(path.read_text())
        if result["criterion"] != claim.criterion:
            lines += ["The criterion is newer than the result; test the claim again.", ""]
        lines += [f"**{'Holds' if result['holds'] else 'Does not hold'}** ({result['seconds']} s of CPU time, {result['machine']}).", ""]
        lines += [] if result["holds"] or not claim.failed else [claim.failed, ""]
        lines += [f"Earlier tests: {claim.before}", ""] if claim.before else []
        lines += all_listed(result["measured"])
        lines += ["", f"![{claim.title}](claims/{letter}.png)"]
    PAGE.write_text("\n".join(_once(lines)) + "\n")


def _once(lines: list[str]) -> list[str]:
    """Without repeated empty lines."""
    return [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]


def main() -> int:
    parser = argparse.ArgumentParser(description="Test claims of the lectures.")
    parser.add_argument("--claims", default=",".join(CLAIMS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--pages", action="store_true")
    read = parser.parse_args()
    letters = read.claims.split(",")
    if wrong := sorted(set(letters) - set(CLAIMS)):
        parser.error(f"no claim {wrong[0]!r}; there are {', '.join(CLAIMS)}")
    torch.set_num_threads(1)
    failed = False
    for letter in [] if read.pages else letters:
        path = RESULTS / f"{letter}.json"
        try:
            result = json.loads(path.read_text()) if path.is_file() and not read.again else make(letter)
        except SelfsightError as problem:
            print(f"{letter}: not tested. {problem}", flush=True)
            failed = True
            continue
        print(f"{letter}: {CLAIMS[letter].title}\n   criterion: {CLAIMS[letter].criterion}\n   measured: {shown(result['measured'])}")
        print(f"   {'holds' if result['holds'] else 'DOES NOT HOLD'}", flush=True)
        failed |= not result["holds"]
        write_page()
    write_page()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
