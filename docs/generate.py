"""Write the pages of docs/look-up that come from signatures and tables."""

import inspect
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from selfsight.backbones.table import BACKBONES
from selfsight.cli import VERBS
from selfsight.cli.options import explained
from selfsight.core import errors
from selfsight.core.registry import Registry
from selfsight.data.readers.table import FILE_READERS, READERS
from selfsight.discover.images.table import GROUPERS
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.explorer.server.job_table import JOBS
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.methods.table import METHODS, method_class
from selfsight.workflows.discover.table import DISCOVERIES
from selfsight.workflows.evaluate.analyses.table import ANALYSES

sys.path.insert(0, str(Path(__file__).parent))
import published

HERE = Path(__file__).parent / "look-up"


def short(value: object) -> str:
    """A short form of a default value."""
    if hasattr(value, "draw"):
        return type(value).__name__
    return str(value) if not is_dataclass(value) or "__str__" in vars(type(value)) else type(value).__name__


def methods() -> str:
    """All methods with their options."""
    lines = ["# Methods", "", "Written by `docs/generate.py`; do not edit.", ""]
    for name in METHODS:
        kind = method_class(name)
        card, small = kind.card, kind.small
        probe = "k-NN" if card.probe == "knn" else card.probe
        said = inspect.cleandoc(kind.__doc__ or "")
        lines += [f"## {name}", "", said.split("\n\nArgs:")[0], ""]
        lines += [
            f"{card.family} · {card.kind} · {card.paper} · evaluated by {probe} · decks {', '.join(card.decks)}",
            "",
        ]
        lines += ["| option | paper | small images | |", "|---|---|---|---|"]
        words = explained(kind.__doc__)
        for option, parameter in inspect.signature(kind).parameters.items():
            if option != "backbone":
                own = short(small.options[option]) if option in small.options else ""
                about = words.get(option, "augmentation" if option == "recipe" else "")
                lines.append(f"| `{option}` | {short(parameter.default)} | {own} | {about} |")
        for label, training in (("paper", kind.paper), ("small images", small.training)):
            rate = f"{training.rate:g} per {training.reference_batch} images"
            lines += [
                "",
                f"Training, {label}: {training.optimiser}, rate {rate}, decay {training.decay:g}, warm-up {training.warmup:.0%} of the run.",
            ]
        lines[-1] += f" Batches of {small.batch}, `{small.backbone}`."
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def codes() -> str:
    """Verbs and exit codes of the command line."""
    lines = ["# Command line", "", "Written by `docs/generate.py`; do not edit.", "", "| verb | |", "|---|---|"]
    lines += [f"| `selfsight {verb}` | {words} |" for verb, words in VERBS.items()]
    lines += ["", "Every verb takes `--json` (one object on standard output; progress goes to standard error) and `--help`.", ""]
    lines += ["| exit code | error | |", "|---|---|---|", "| 0 | | done |"]
    kinds = [getattr(errors, name) for name in errors.__all__]
    for kind in sorted(kinds, key=lambda kind: (kind.exit_code, kind.__name__)):
        lines.append(f"| {kind.exit_code} | `{kind.__name__}` | {inspect.cleandoc(kind.__doc__ or '').splitlines()[0]} |")
    return "\n".join(lines) + "\n"


REGISTRIES: dict[str, tuple[Registry[Any], ...]] = {
    "Methods": (METHODS,),
    "Backbones": (BACKBONES,),
    "Attribution methods": (ATTRIBUTIONS,),
    "Probes": (PROBES, LAYER_PROBES),
    "Analyses": (ANALYSES,),
    "Discoveries": (DISCOVERIES,),
    "Localisers": (LOCALISERS,),
    "Segmenters": (SEGMENTERS,),
    "Part finders": (PART_FINDERS,),
    "Clustering methods": (GROUPERS,),
    "Data formats": (READERS, FILE_READERS),
    "Jobs of the explorer": (JOBS,),
}


def names() -> str:
    """All registered names."""
    lines = ["# Names", "", "Written by `docs/generate.py`; do not edit. All registered names, and what they require of the data."]
    for title, registries in REGISTRIES.items():
        lines += ["", f"## {title}", "", "| name | | aliases | needs |", "|---|---|---|---|"]
        for entry in (entry for registry in registries for entry in registry.values()):
            kind = " (baseline)" if entry.baseline else " (no network)" if entry.model_free else ""
            lines.append(f"| `{entry.name}` | {entry.summary}{kind} | {', '.join(entry.aliases)} | {', '.join(entry.needs)} |")
    return "\n".join(lines) + "\n"


PAGES = {"names.md": names, "methods.md": methods, "command-line.md": codes, "presets.md": published.page}


def main() -> int:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
