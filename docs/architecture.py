"""Write docs/understand/architecture.md: the diagram of rooms comes from the imports, and every function named is checked."""

import ast
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfsight"
PAGE = ROOT / "docs" / "understand" / "architecture.md"

ROOMS = {
    "cli": "flags from signatures and registries; prints results",
    "api": "`learn`, `load`, `wrap`, `open`, `Run`: thin functions for scripts and notebooks",
    "explorer": "the page in the browser: a server without torch, the preparation of data, and a worker that runs jobs",
    "report": "one page about a run",
    "workflows": "what a user asks for, from request to saved result: train, evaluate, explain, discover",
    "tasks": "copies of a network that are trained with labels: classify, segment, detect",
    "discover": "objects, segments, parts, clusters and duplicates, without labels",
    "explain": "attribution, inversion, synthesis, and checks of explanations",
    "measure": "probes of features, analyses of networks, metrics, baselines",
    "engine": "the training loop, checkpoints, health, hardware",
    "methods": "one class per way of learning",
    "bank": "cached features: one pass for all layers, and nearest neighbours",
    "render": "tiles, sheets, charts and HTML panels; knows no network",
    "regions": "boxes and proposals",
    "backbones": "networks for images, clips and sounds",
    "data": "sources, readers, views (augmentations), rendered worlds",
    "modules": "heads, momentum copies, queues, memories, prototypes",
    "objectives": "losses as pure functions",
    "core": "types that everything shares: batches, views, methods, representations, registries, errors",
}

SCORE = [
    ("selfsight.data.opening:open_source", "opens the data set by its name; the registry of readers finds how"),
    ("selfsight.data.readers.folder:FolderListing.payloads", "gives the bytes of each file"),
    ("selfsight.data.decode:decode", "decodes an image"),
    ("selfsight.data.packed:PackedSource.read", "reads a batch from the cache of decoded images"),
    ("selfsight.data.loader:load_images", "makes tensors of it: `Images`"),
    ("selfsight.data.evaluation_view:EvaluationView.of", "crops and resizes: the view without chance"),
    ("selfsight.core.representation:Representation.pooled_layers", "normalises and runs the network once, for all layers"),
    ("selfsight.bank.extract:get_bank", "streams the features to disk"),
    ("selfsight.measure.probes.knn:knn", "scores them, here by nearest neighbours"),
    ("selfsight.measure.baselines:untrained_networks", "the same for untrained networks and for raw pixels"),
    ("selfsight.workflows.evaluate.probes:evaluate", "puts scores beside baselines: `EvaluationResult`"),
]
ATTRIBUTION = [
    ("selfsight.workflows.explain:explain_images", "reads the images and the target from what the user wrote"),
    ("selfsight.explain.attribution.explanation:explain", "runs every method that was asked for"),
    ("selfsight.core.registry:Registry.load", "finds the method by name"),
    ("selfsight.core.representation:Representation.normalise", "pixels in [0, 1] become the network's input"),
    ("selfsight.explain.attribution.saliency:saliency", "runs forward and backward, with the rule of the method"),
    ("selfsight.core.hooks:capture_activations", "keeps the activations and gradients of the layer"),
    ("selfsight.explain.attribution.explanation:Explanation.save", "writes the maps, the sheet and the figures"),
]
CHANGES = [
    ("a method", "`methods/FAMILY/NAME.py`, a line in `methods/table.py`"),
    ("a loss", "a function in `objectives/`, its slow reference in `tests/oracles/`"),
    ("a backbone", "`backbones/image|video|audio/NAME.py`, a line in `backbones/table.py`"),
    ("an augmentation", "`data/views/image|clip|sound/`"),
    ("a kind of data", "`data/readers/NAME.py`, a line in `data/readers/table.py`"),
    ("an attribution method", "`explain/attribution/NAME.py`, a line in `explain/attribution/table.py`"),
    ("a probe", "`measure/probes/NAME.py`, a line in `measure/probes/table.py`"),
    ("an analysis of networks", "`workflows/evaluate/analyses/NAME.py`, a line in its `table.py`"),
    ("a localiser, segmenter, part finder or grouper", "`discover/objects|segments|parts|images/NAME.py`, a line in its `table.py`"),
    ("a discovery", "`workflows/discover/NAME.py`, a line in its `table.py`"),
    ("a job of the explorer", "`explorer/worker/jobs/NAME.py`, a line in `explorer/server/job_table.py`"),
    ("a verb of the command line", "`cli/NAME.py`, a line in `cli/__init__.py`"),
]
GLOSSARY = {
    "bank": "cached features of a data set",
    "card": "a method's family, paper and the probe that decides about it",
    "Clock": "seed, step and epoch: all randomness is a function of it",
    "floor": "a baseline: the same score of raw pixels or of the untrained network",
    "hint": "a parameter of a view that a method may see, such as the crop box",
    "Part": "a module with state of its own, such as a queue or a momentum copy",
    "recipe": "how images become views: `draw` the random numbers, then `make` the pixels",
    "run": "the folder of one training, with everything that was made from it",
    "Views": "all that a method may see of a batch; it holds no labels",
}


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports when it is loaded or later, by reading the source."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfsight."):
                other = str(node.module).split(".")[1]
                if other != room and room in ROOMS:
                    found[room].add(other)
    return found


def resolve(place: str) -> object:
    """The function that a step of a path names.

    Raises:
        AttributeError: there is none.
    """
    module, _, names = place.partition(":")
    found: object = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def steps(path: list[tuple[str, str]]) -> list[str]:
    """A numbered list of functions; each must exist."""
    lines = []
    for number, (place, words) in enumerate(path, 1):
        assert callable(resolve(place))
        module, _, name = place.partition(":")
        lines.append(f"{number}. `{name}` ({module.removeprefix('selfsight.').replace('.', '/')}.py): {words}.")
    return lines


def direct(found: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no chain of other imports implies."""
    reach: dict[str, set[str]] = {}
    for room in reversed(list(ROOMS)):
        reach[room] = set().union(*({other} | reach.get(other, set()) for other in found[room]), set())
    edges = []
    for room in ROOMS:
        implied = set().union(*(reach[other] for other in found[room]), set())
        edges += [(room, other) for other in ROOMS if other in found[room] - implied]
    return edges


def page() -> str:
    """The page's text."""
    found = imports()
    lines = [
        "# Architecture",
        "",
        "Written by `docs/architecture.py`; do not edit. Domain packages compute; `workflows` carries out what a user",
    ]
    lines += [
        "asked for; `cli`, `api` and `explorer` translate. An import contract keeps the direction: no package imports one above it.",
        "",
    ]
    lines += ["## Packages", "", "| package | what it holds | imports |", "|---|---|---|"]
    lines += [f"| `{room}` | {words} | {', '.join(other for other in ROOMS if other in found[room])} |" for room, words in ROOMS.items()]
    lines += ["", "Arrows are imports; those that a chain of others implies are left out.", "", "```mermaid", "flowchart TD"]
    lines += [f"  {room} --> {other}" for room, other in direct(found)]
    lines += ["```", "", "## From an image file to a score", "", *steps(SCORE)]
    lines += ["", "## From a pixel to an attribution", "", *steps(ATTRIBUTION)]
    lines += ["", "## To change or add something", "", "| to change or add | touch |", "|---|---|"]
    lines += [f"| {what} | {where} |" for what, where in CHANGES]
    lines += ["", "## Glossary", "", "| word | meaning |", "|---|---|", *(f"| {word} | {words} |" for word, words in GLOSSARY.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
