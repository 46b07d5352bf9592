"""``selfsight explain``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from selfsight.cli.options import emit, parse
from selfsight.core.errors import UsageError

__all__ = ["run"]

WORDS = "What in an image makes the representation say what it says: maps of several methods side by side."


@dataclass(frozen=True)
class Attribute:
    """What to explain."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
    images: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(help="picture files, or rows of a data set: world:shapes#0,3,8-11")]
    ]
    method: Annotated[str, tyro.conf.arg(help="names with commas between; see --methods")] = (
        "gradient,grad_cam,integrated_gradients,extremal"
    )
    target: Annotated[
        str,
        tyro.conf.arg(
            help="class, class:NAME, cluster, cluster:NUMBER, unit:LAYER/CHANNEL, like:IMAGE, code; without a number: of each image"
        ),
    ] = "code"
    out: Annotated[str | None, tyro.conf.arg(help="folder of the result; by default explanations/attribute in the run's folder")] = None
    whole: Annotated[bool, tyro.conf.arg(help="the whole picture in place of its middle square")] = False
    size: Annotated[int | None, tyro.conf.arg(help="side of the pictures in pixels, for timm:")] = None
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Explain; return the exit code."""
    verbs = {"attribute": _attribute}
    if not arguments or arguments[0] in ("-h", "--help"):
        from selfsight.explain.table import ATTRIBUTIONS

        print(f"usage: selfsight explain attribute RUN IMAGE… [options]\n\n{WORDS}\n\nmethods: {', '.join(ATTRIBUTIONS)}")
        return 0
    if arguments[0] not in verbs:
        raise UsageError(f"selfsight explain does not know {arguments[0]!r}.", f"It knows: {', '.join(verbs)}.")
    return verbs[arguments[0]](arguments[1:])


def _attribute(arguments: list[str]) -> int:
    read = parse(Attribute, arguments, "explain attribute", WORDS)
    from selfsight.api import Run

    run = Run(read.run, size=read.size)
    found = run.explain(
        read.images,
        target=read.target,
        methods=read.method.split(","),
        whole=read.whole,
        say=lambda words: print(words, file=sys.stderr),
    )
    folder = Path(read.out) if read.out else run.path / "explanations" / "attribute"
    paths = found.save(folder)
    if read.json:
        emit(found.to_plain() | {"files": [str(path) for path in paths]})
    else:
        print(paths[0])
    return 0
