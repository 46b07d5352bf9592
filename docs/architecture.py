"""Write docs/understand/architecture.md: the diagram of packages comes from the imports; every named function must exist."""

import ast
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfsight"
PAGE = ROOT / "docs" / "understand" / "architecture.md"

PACKAGES = {
    "cli": "flags from signatures and registries; prints results",
    "api": "`learn`, `load`, `wrap`, `open`, `Run`: thin functions for scripts and notebooks",
    "explorer": "the page in the browser: a server without torch, the preparation of data, and a worker that runs jobs",
    "report": "one page about a run",
    "workflows": "execution of requests, from options to saved results: train, evaluate, explain, discover",
    "tasks": "copies of a network that are trained with labels: classify, segment, detect",
    "discover": "objects, segments, parts, clusters and duplicates, without labels",
    "explain": "attribution, inversion, synthesis, and checks of explanations",
    "measure": "probes of features, analyses of networks, metrics, baselines",
    "engine": "the training loop, checkpoints, health, hardware",
    "methods": "training methods, one class each",
    "bank": "cached features: one pass for all layers, and nearest neighbours",
    "render": "tiles, sheets, charts and HTML panels; independent of networks",
    "regions": "boxes and proposals",
    "backbones": "networks for images, clips and sounds",
    "data": "sources, readers, views (augmentations), rendered worlds",
    "modules": "heads, momentum copies, queues, memories, prototypes",
    "objectives": "losses as pure functions",
    "core": "shared types: batches, views, methods, representations, registries, errors",
}

SCORE = [
    ("selfsight.data.opening:open_source", "opens a data set by name, with a reader of the registry"),
    ("selfsight.data.readers.folder:FolderListing.payloads", "reads the bytes of each file"),
    ("selfsight.data.decode:decode", "decodes an image"),
    ("selfsight.data.packed:PackedSource.read", "reads a batch from the cache of decoded images"),
    ("selfsight.data.loader:load_images", "converts it to tensors: `Images`"),
    ("selfsight.data.evaluation_view:EvaluationView.of", "crops and resizes without random augmentation"),
    ("selfsight.core.representation:Representation.pooled_layers", "normalises and runs the network once, for all layers"),
    ("selfsight.bank.extract:get_bank", "streams the features to disk"),
    ("selfsight.measure.probes.knn:knn", "computes the score of a probe, here k-nearest neighbours"),
    ("selfsight.measure.baselines:untrained_networks", "creates the untrained networks of the baselines; raw pixels are another"),
    ("selfsight.workflows.evaluate.probes:evaluate", "returns scores with baselines: `EvaluationResult`"),
]
ATTRIBUTION = [
    ("selfsight.workflows.explain:explain_images", "parses images and target from text"),
    ("selfsight.explain.attribution.explanation:explain", "runs the requested methods"),
    ("selfsight.core.registry:Registry.load", "finds the method by name"),
    ("selfsight.core.representation:Representation.normalise", "pixels in [0, 1] become the network's input"),
    ("selfsight.explain.attribution.saliency:saliency", "runs the forward and backward pass, with the rule of the method"),
    ("selfsight.core.hooks:capture_activations", "captures the activations of the layer"),
    ("selfsight.explain.attribution.explanation:Explanation.save", "writes the maps, the sheet and the figures"),
]
CHANGES = [
    ("a method", "`methods/FAMILY/NAME.py`, a line in `methods/table.py`"),
    ("a loss", "a function in `objectives/`, its slow reference in `tests/oracles/`"),
    ("a backbone", "`backbones/image|video|audio/NAME.py`, a line in `backbones/table.py`"),
    ("an augmentation", "`data/views/image|clip|sound/`"),
    ("a data set format", "`data/readers/NAME.py`, a line in `data/readers/table.py`"),
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
    "baseline": "the same score of raw pixels or of the untrained network",
    "card": "a method's family, paper, and the probe that it is evaluated by",
    "Clock": "seed, step and epoch; all random numbers are functions of it",
    "hint": "a parameter of a view, such as the crop box, that a method can use",
    "Part": "a module whose state is updated after each step, such as a queue or a momentum encoder",
    "recipe": "how images become views: `draw` the random numbers, then `make` the pixels",
    "run": "the folder of a training, with all results",
    "Views": "the input of a method: augmented views of a batch, without labels",
}


def imports() -> dict[str, set[str]]:
    """The packages that each package imports when it is loaded or later, by reading the source."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        package = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfsight."):
                other = str(node.module).split(".")[1]
                if other != package and package in PACKAGES:
                    found[package].add(other)
    return found


def resolve(place: str) -> object:
    """Resolve ``module:name`` to an object.

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
    """Imports without those that other imports imply (transitive reduction)."""
    reach: dict[str, set[str]] = {}
    for package in reversed(list(PACKAGES)):
        reach[package] = set().union(*({other} | reach.get(other, set()) for other in found[package]), set())
    edges = []
    for package in PACKAGES:
        implied = set().union(*(reach[other] for other in found[package]), set())
        edges += [(package, other) for other in PACKAGES if other in found[package] - implied]
    return edges


def page() -> str:
    """The page's text."""
    found = imports()
    lines = [
        "# Architecture",
        "",
        "Written by `docs/architecture.py`; do not edit. Domain packages compute; `workflows` executes requests of users, which",
        "`cli`, `api` and `explorer` parse. An import contract (tested) forbids imports of packages that are higher in the table.",
        "",
    ]
    lines += ["## Packages", "", "| package | contents | imports |", "|---|---|---|"]
    for package, words in PACKAGES.items():
        lines.append(f"| `{package}` | {words} | {', '.join(other for other in PACKAGES if other in found[package])} |")
    lines += ["", "Arrows are imports; transitive ones are omitted.", "", "```mermaid", "flowchart TD"]
    lines += [f"  {package} --> {other}" for package, other in direct(found)]
    lines += ["```", "", "## From an image file to a score", "", *steps(SCORE)]
    lines += ["", "## From a pixel to an attribution", "", *steps(ATTRIBUTION)]
    lines += ["", "## Where to add or change something", "", "| what | files |", "|---|---|"]
    lines += [f"| {what} | {where} |" for what, where in CHANGES]
    lines += ["", "## Glossary", "", "| word | meaning |", "|---|---|", *(f"| {word} | {words} |" for word, words in GLOSSARY.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
