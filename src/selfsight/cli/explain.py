"""``selfsight explain``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from selfsight.cli.options import DeviceArg, emit, parse
from selfsight.core.errors import UsageError
from selfsight.core.results import results_folder

if TYPE_CHECKING:
    from selfsight.api import Run

__all__ = ["VERBS", "run"]

RunArg = tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
ImagesArg = tyro.conf.Positional[
    Annotated[tuple[str, ...], tyro.conf.arg(help="image files, or rows of a data set: world:shapes#0,3,8-11")]
]
TargetArg = Annotated[
    str,
    tyro.conf.arg(
        help="class, class:NAME, cluster, cluster:NUMBER, unit:LAYER/CHANNEL, like:IMAGE, code; without a name: the highest of each image"
    ),
]
DataArg = Annotated[
    str | None, tyro.conf.arg(help="data set for an inverter, a spectrum or a ranking of units; by default the training data")
]
OutArg = Annotated[str | None, tyro.conf.arg(help="folder of the result; by default explanations/VERB in the run's folder")]
SizeArg = Annotated[int | None, tyro.conf.arg(help="side of the images in pixels, for timm:")]
SeedArg = Annotated[int, tyro.conf.arg(help="seed of the noise")]
JsonArg = Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")]

WORDS = "Attribution maps of several methods: which pixels the score of a target depends on."


@dataclass(frozen=True)
class Attribute:
    """Options of ``explain attribute``."""

    run: RunArg
    images: ImagesArg
    method: Annotated[str, tyro.conf.arg(help="names separated by commas, or all; selfsight explain --help lists them")] = (
        "gradient,grad_cam,integrated_gradients,extremal"
    )
    target: TargetArg = "code"
    out: OutArg = None
    whole: Annotated[bool, tyro.conf.arg(help="the whole image instead of its central square")] = False
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Invert:
    """Options of ``explain invert``."""

    run: RunArg
    images: ImagesArg
    layers: Annotated[str, tyro.conf.arg(help="names of layers separated by commas; by default all main layers")] = ""
    restarts: Annotated[int, tyro.conf.arg(help="reconstructions per layer, from different noise; for descent")] = 1
    weight: Annotated[
        float, tyro.conf.arg(help="weight of the features relative to the image prior; 1 to 300, larger for shallow layers; for descent")
    ] = 100.0
    steps: Annotated[int, tyro.conf.arg(help="steps of descent, followed by a sixth as many at a low rate; not for learned")] = 300
    method: Annotated[
        Literal["descent", "form", "learned"],
        tyro.conf.arg(help="optimisation from noise; form: deep image prior; learned: an inverter that is trained once on --data"),
    ] = "descent"
    data: DataArg = None
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Maximise:
    """Options of ``explain maximise``."""

    run: RunArg
    targets: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(help="unit:LAYER/CHANNEL, cluster:NUMBER, class:NAME")]]
    count: Annotated[int, tyro.conf.arg(help="images per target")] = 3
    parameterisation: Annotated[
        Literal["fourier", "pixels", "phase", "generated"],
        tyro.conf.arg(help="parameterisation of the images; phase uses the spectrum of --data, generated the code of a learned inverter"),
    ] = "fourier"
    data: DataArg = None
    steps: Annotated[int, tyro.conf.arg(help="optimisation steps")] = 200
    diversity: Annotated[float, tyro.conf.arg(help="weight of the diversity of the images of a target")] = 0.0
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Diagnose:
    """Options of ``explain diagnose``."""

    run: RunArg
    images: ImagesArg
    target: TargetArg = "class"
    required_fraction: Annotated[float, tyro.conf.arg(help="fraction of the score that has to be kept")] = 0.9
    substrate: Annotated[Literal["mean", "blur"], tyro.conf.arg(help="baseline outside of a mask: mean colour or blurred image")] = "mean"
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


@dataclass(frozen=True)
class Compare:
    """Options of ``explain compare``."""

    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(help="runs' folders, timm:NAME, untrained:NAME")]]
    data: DataArg = None
    depth: Annotated[float, tyro.conf.arg(help="relative depth of the layer: 0 the first main layer, 1 the last")] = 0.5
    count: Annotated[int, tyro.conf.arg(help="units per network")] = 4
    steps: Annotated[int, tyro.conf.arg(help="optimisation steps")] = 200
    seed: SeedArg = 0
    out: OutArg = None
    size: SizeArg = None
    device: DeviceArg = "auto"
    json: JsonArg = False


def run(arguments: list[str]) -> int:
    """Explain; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] not in VERBS:
        raise UsageError(f"selfsight explain does not know {arguments[0]!r}.", f"It knows: {', '.join(VERBS)}.")
    return VERBS[arguments[0]](arguments[1:])


def _help() -> str:
    from selfsight.explain.attribution.table import ATTRIBUTIONS

    return (
        "usage: selfsight explain attribute RUN IMAGE… [options]   attribution maps of several methods\n"
        "       selfsight explain sheet RUN IMAGE… [options]       attribution maps of every method that supports the network\n"
        "       selfsight explain invert RUN IMAGE… [options]      images reconstructed from the features of each layer\n"
        "       selfsight explain maximise RUN TARGET… [options]   images that maximise a unit, a cluster or a class\n"
        "       selfsight explain compare RUN RUN… [options]       maximally activating images of units of several networks\n"
        "       selfsight explain diagnose RUN IMAGE… [options]    smallest sufficient regions: is the evidence on the object?\n\n"
        f"attribution methods: {', '.join(ATTRIBUTIONS)}\n"
        "selfsight explain VERB --help shows its options."
    )


def _save(result: Any, options: Any, run: "Run", verb: str) -> int:
    """Save a result and print its path, or its content as JSON."""
    paths = result.save(Path(options.out) if options.out else results_folder(run.path, f"explanations/{verb}"))
    if options.json:
        emit(result.to_json() | {"files": [str(path) for path in paths]})
    else:
        print(paths[0])
    return 0


def _invert(arguments: list[str]) -> int:
    options = parse(Invert, arguments, "explain invert", "Images reconstructed from the features of each layer.")
    from selfsight.api import Run

    run = Run(options.run, size=options.size, device=options.device)
    layers = [name for name in options.layers.split(",") if name]
    more: dict[str, Any] = {"seed": options.seed}
    if options.method == "descent":
        more |= {"restarts": options.restarts, "weight": options.weight, "steps": (options.steps, -(-options.steps // 6))}
    elif options.method == "form":
        more |= {"steps": options.steps}
    else:
        more = {}
    found = run.invert(options.images, layers=layers, method=options.method, data=options.data, progress=_log, **more)
    return _save(found, options, run, "invert")


def _log(words: str) -> None:
    print(words, file=sys.stderr)


def _compare(arguments: list[str]) -> int:
    options = parse(Compare, arguments, "explain compare", "Maximally activating images of units of the same rank, in several networks.")
    from selfsight.api import Run

    if len(options.runs) < 2:
        raise UsageError("A comparison needs at least two networks.", "Name two or more.")
    run = Run(options.runs[0], size=options.size, device=options.device)
    found = run.compare(
        options.runs[1:], data=options.data, depth=options.depth, count=options.count, steps=options.steps, seed=options.seed
    )
    return _save(found, options, run, "compare")


def _diagnose(arguments: list[str]) -> int:
    options = parse(
        Diagnose,
        arguments,
        "explain diagnose",
        "For each image the smallest region that keeps the score, and whether it lies on the object.",
    )
    from selfsight.api import Run

    run = Run(options.run, size=options.size, device=options.device)
    found = run.diagnose(options.images, target=options.target, required_fraction=options.required_fraction, substrate=options.substrate)
    if not options.json and found.object_fraction is not None:
        print(
            f"{len(found.suspects)} of {len(found.names)} images keep more of the score by the background alone than by the object alone",
            file=sys.stderr,
        )
    return _save(found, options, run, "diagnose")


def _maximise(arguments: list[str]) -> int:
    options = parse(Maximise, arguments, "explain maximise", "Images that maximise a unit, a cluster or a class.")
    from selfsight.api import Run

    run = Run(options.run, size=options.size, device=options.device)
    found = run.maximise(
        options.targets,
        count=options.count,
        parameterisation=options.parameterisation,
        data=options.data,
        steps=options.steps,
        diversity=options.diversity,
        seed=options.seed,
        progress=_log,
    )
    return _save(found, options, run, "maximise")


def _sheet(arguments: list[str]) -> int:
    return _attribute(["--method", "all", *arguments], "sheet", "Attribution maps of every method that supports the network.")


def _attribute(arguments: list[str], verb: str = "attribute", description: str = WORDS) -> int:
    options = parse(Attribute, arguments, f"explain {verb}", description)
    from selfsight.api import Run

    run = Run(options.run, size=options.size, device=options.device)
    found = run.explain(
        options.images,
        target=options.target,
        methods=options.method.split(","),
        whole=options.whole,
        progress=_log,
    )
    return _save(found, options, run, verb)


VERBS = {"attribute": _attribute, "sheet": _sheet, "invert": _invert, "maximise": _maximise, "compare": _compare, "diagnose": _diagnose}
"""What follows ``selfsight explain``."""
