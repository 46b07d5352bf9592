"""``selfsight explain``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from selfsight.cli.options import DeviceArg, emit, parse
from selfsight.core.errors import UsageError

if TYPE_CHECKING:
    from selfsight.api import Run

__all__ = ["run"]

RunArg = tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
ImagesArg = tyro.conf.Positional[
    Annotated[tuple[str, ...], tyro.conf.arg(help="picture files, or rows of a data set: world:shapes#0,3,8-11")]
]
TargetArg = Annotated[
    str,
    tyro.conf.arg(help="class, class:NAME, cluster, cluster:NUMBER, unit:LAYER/CHANNEL, like:IMAGE, code; without a number: of each image"),
]
LikeArg = Annotated[str | None, tyro.conf.arg(help="a data set to learn or to count from; by default what was learnt from")]
OutArg = Annotated[str | None, tyro.conf.arg(help="folder of the result; by default explanations/VERB in the run's folder")]
SizeArg = Annotated[int | None, tyro.conf.arg(help="side of the pictures in pixels, for timm:")]
SeedArg = Annotated[int, tyro.conf.arg(help="of the noise")]
JsonArg = Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")]

WORDS = "What in an image makes the representation say what it says: maps of several methods side by side."


@dataclass(frozen=True)
class Attribute:
    """What to explain."""

    run: RunArg
    images: ImagesArg
    method: Annotated[str, tyro.conf.arg(help="names with commas between, or all; selfsight explain --help lists them")] = (
        "gradient,grad_cam,integrated_gradients,extremal"
    )
    target: TargetArg = "code"
    out: OutArg = None
    whole: Annotated[bool, tyro.conf.arg(help="the whole picture in place of its middle square")] = False
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Invert:
    """What to find again."""

    run: RunArg
    images: ImagesArg
    layers: Annotated[str, tyro.conf.arg(help="names with commas between; by default all that are worth looking at")] = ""
    restarts: Annotated[int, tyro.conf.arg(help="pictures for each layer, from different noise; of descent")] = 1
    weight: Annotated[
        float, tyro.conf.arg(help="of the features beside what is known of pictures; 1 to 300, more for shallow layers; of descent")
    ] = 100.0
    steps: Annotated[int, tyro.conf.arg(help="of descent, with a sixth as many at a low rate after; an inverter has its own")] = 300
    by: Annotated[
        Literal["descent", "form", "learned"],
        tyro.conf.arg(help="from noise; by the form of a network; or by an inverter that is learnt once, from --like"),
    ] = "descent"
    like: LikeArg = None
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Maximise:
    """What the pictures should make largest."""

    run: RunArg
    targets: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(help="unit:LAYER/CHANNEL, cluster:NUMBER, class:NAME")]]
    count: Annotated[int, tyro.conf.arg(help="pictures for each target")] = 3
    writing: Annotated[
        Literal["fourier", "pixels", "phase", "generated"],
        tyro.conf.arg(help="how pictures are written down: phase has the spectrum of --like, generated the code of a learned inverter"),
    ] = "fourier"
    like: LikeArg = None
    steps: Annotated[int, tyro.conf.arg(help="of ascent")] = 200
    diverse: Annotated[float, tyro.conf.arg(help="how much the pictures of a target are kept apart")] = 0.0
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Diagnose:
    """Where the evidence is."""

    run: RunArg
    images: ImagesArg
    target: TargetArg = "class"
    enough: Annotated[float, tyro.conf.arg(help="the part of the score that has to be kept")] = 0.9
    substrate: Annotated[Literal["mean", "blur"], tyro.conf.arg(help="what stands where a mask does not show the image")] = "mean"
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Compare:
    """Which networks."""

    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(help="runs' folders, timm:NAME, untrained:NAME")]]
    like: LikeArg = None
    depth: Annotated[float, tyro.conf.arg(help="of the layer: 0 the first worth looking at, 1 the last")] = 0.5
    count: Annotated[int, tyro.conf.arg(help="units of each")] = 4
    steps: Annotated[int, tyro.conf.arg(help="of ascent")] = 200
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


def run(arguments: list[str]) -> int:
    """Explain; return the exit code."""
    verbs = {"attribute": _attribute, "sheet": _sheet, "invert": _invert, "maximise": _maximise, "compare": _compare, "diagnose": _diagnose}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] not in verbs:
        raise UsageError(f"selfsight explain does not know {arguments[0]!r}.", f"It knows: {', '.join(verbs)}.")
    return verbs[arguments[0]](arguments[1:])


def _help() -> str:
    from selfsight.explain.attribution.table import ATTRIBUTIONS

    return (
        "usage: selfsight explain attribute RUN IMAGE… [options]   what in an image makes the representation say what it says\n"
        "       selfsight explain sheet RUN IMAGE… [options]       the same by every method that can explain the network\n"
        "       selfsight explain invert RUN IMAGE… [options]      what each layer has kept of an image\n"
        "       selfsight explain maximise RUN TARGET… [options]   pictures that make a unit, a cluster or a class say most\n"
        "       selfsight explain compare RUN RUN… [options]       what units of the same rank like, in several networks\n"
        "       selfsight explain diagnose RUN IMAGE… [options]    is the evidence on the object?\n\n"
        f"methods of attribution: {', '.join(ATTRIBUTIONS)}\n"
        "selfsight explain VERB --help tells more."
    )


def _written(found: Any, read: Any, run: "Run", verb: str) -> int:
    """Save a result and say where it is, or what it is."""
    paths = found.save(Path(read.out) if read.out else run.path / "explanations" / verb)
    if read.json:
        emit(found.to_json() | {"files": [str(path) for path in paths]})
    else:
        print(paths[0])
    return 0


def _invert(arguments: list[str]) -> int:
    read = parse(Invert, arguments, "explain invert", "What each layer has kept of an image: pictures that it cannot tell from it.")
    from selfsight.api import Run

    run = Run(read.run, size=read.size, device=read.device)
    layers = [name for name in read.layers.split(",") if name]
    more: dict[str, Any] = {"seed": read.seed}
    if read.by == "descent":
        more |= {"restarts": read.restarts, "weight": read.weight, "steps": (read.steps, -(-read.steps // 6))}
    elif read.by == "form":
        more |= {"steps": read.steps}
    else:
        more = {}
    found = run.invert(read.images, layers=layers, by=read.by, like=read.like, progress=_aloud, **more)
    return _written(found, read, run, "invert")


def _aloud(words: str) -> None:
    print(words, file=sys.stderr)


def _compare(arguments: list[str]) -> int:
    read = parse(Compare, arguments, "explain compare", "What units of the same rank like most, in several networks.")
    from selfsight.api import Run

    if len(read.runs) < 2:
        raise UsageError("One network alone cannot be compared.", "Name two or more.")
    run = Run(read.runs[0], size=read.size, device=read.device)
    found = run.compare(read.runs[1:], like=read.like, depth=read.depth, count=read.count, steps=read.steps, seed=read.seed)
    return _written(found, read, run, "compare")


def _diagnose(arguments: list[str]) -> int:
    read = parse(
        Diagnose, arguments, "explain diagnose", "For each image the smallest part that is enough, and whether it lies on the object."
    )
    from selfsight.api import Run

    run = Run(read.run, size=read.size, device=read.device)
    found = run.diagnose(read.images, target=read.target, enough=read.enough, substrate=read.substrate)
    if not read.json and found.alone is not None:
        print(
            f"{len(found.suspects)} of {len(found.names)} images keep more of the score without the object than by it alone",
            file=sys.stderr,
        )
    return _written(found, read, run, "diagnose")


def _maximise(arguments: list[str]) -> int:
    read = parse(Maximise, arguments, "explain maximise", "Pictures that make a unit, a cluster or a class say most.")
    from selfsight.api import Run

    run = Run(read.run, size=read.size, device=read.device)
    found = run.maximise(
        read.targets,
        count=read.count,
        writing=read.writing,
        like=read.like,
        steps=read.steps,
        diverse=read.diverse,
        seed=read.seed,
        progress=_aloud,
    )
    return _written(found, read, run, "maximise")


def _sheet(arguments: list[str]) -> int:
    words = "What in an image makes the representation say what it says, by every method that can explain it."
    return _attribute(["--method", "all", *arguments], "sheet", words)


def _attribute(arguments: list[str], verb: str = "attribute", words: str = WORDS) -> int:
    read = parse(Attribute, arguments, f"explain {verb}", words)
    from selfsight.api import Run

    run = Run(read.run, size=read.size, device=read.device)
    found = run.explain(
        read.images,
        target=read.target,
        methods=read.method.split(","),
        whole=read.whole,
        progress=_aloud,
    )
    return _written(found, read, run, verb)
