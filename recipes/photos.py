"""Trains a ViT and a ResNet on a few thousand photographs, for explanations and discoveries without published weights.

    python recipes/photos.py --gather photos.tar folder shots.tar video.tar      # all photographs in these, shorter side 192 px
    python recipes/photos.py --photos photos.tar --out runs --minutes 60          # both networks, one after the other
    python recipes/photos.py --photos photos.tar --out runs --only vit --device cpu --minutes 30

A tar with a folder called ``frames`` is a video: every third frame is used, because neighbouring frames hardly differ. One JSON per network
in ``recipes/photos``.
"""

import argparse
import io
import json
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "photos"
KINDS = (".jpg", ".jpeg", ".png")
SIDE = 192
EVERY = 3
WISHES: dict[str, dict[str, Any]] = {
    "vit": {
        "method": "dino",
        "backbone": "vit_small?patch=8",
        "size": 112,
        "batch": 128,
        "options": {"prototypes": 4096},
    },
    "resnet": {"method": "simclr", "backbone": "resnet18", "size": 128, "batch": 256},
    "tiny": {"method": "simclr", "backbone": "resnet_tiny", "size": 112, "batch": 128},
}
"""Training request of each network; ``tiny`` is for a CPU.

Patches of 8 px, because the grid limits object discovery; few prototypes, because there are few images."""


def found(places: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every photograph in folders and tars; every third frame of a video."""
    for place in places:
        if place.is_dir():
            for path in sorted(place.rglob("*")):
                if path.suffix.lower() in KINDS:
                    yield f"{place.parent.name}/{place.name}/{path.relative_to(place)}", path.read_bytes()
            continue
        with tarfile.open(place) as tar:
            members = sorted((member for member in tar if Path(member.name).suffix.lower() in KINDS), key=lambda member: member.name)
            frames = [member for member in members if "/frames/" in member.name]
            for member in frames[::EVERY] if frames else members:
                held = tar.extractfile(member)
                if held is not None:
                    yield f"{place.parent.name}/{place.stem}/{member.name}", held.read()


def gather(places: list[Path], into: Path) -> int:
    """Write the downscaled photographs into one tar; returns their number."""
    from PIL import Image

    count = 0
    with tarfile.open(into, "w") as tar:
        for name, held in found(places):
            image = Image.open(io.BytesIO(held)).convert("RGB")
            scale = SIDE / min(image.size)
            if scale < 1:
                image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
            written = io.BytesIO()
            image.save(written, "JPEG", quality=88)
            entry = tarfile.TarInfo(str(Path(name).with_suffix(".jpg")))
            entry.size = written.tell()
            written.seek(0)
            tar.addfile(entry, written)
            count += 1
    return count


def learn_one(name: str, read: argparse.Namespace) -> dict[str, Any]:
    """Train one network; returns its settings, time and throughput."""
    import torch

    from selfsight.core.origin import origin
    from selfsight.workflows.train.request import TrainRequest
    from selfsight.workflows.train.run import RunPolicy, run_training

    long = {"steps": read.steps} if read.steps else {"minutes": read.minutes}
    wishes = TrainRequest(data=str(read.photos), seed=read.seed, device=read.device, **long, **WISHES[name])
    path = Path(read.out) / f"photos_{name}"
    started = time.perf_counter()
    summary = run_training(wishes, path, RunPolicy(overwrite=read.overwrite, progress=lambda words: print(f"{name}: {words}", flush=True)))
    config = json.loads((path / "config.json").read_text())
    with tarfile.open(read.photos) as tar:
        photographs = len(tar.getnames())
    here = origin()
    return {
        "network": name,
        "method": config["method"],
        "backbone": config["backbone"],
        "size": config["size"],
        "batch": config["batch"],
        "steps": config["steps"],
        "photographs": photographs,
        "passes": round(config["steps"] * config["batch"] / photographs, 1),
        "images_per_second": round(summary["images"] / summary["seconds"]),
        "minutes": round((time.perf_counter() - started) / 60, 2),
        "status": summary["status"],
        "machine": torch.cuda.get_device_name() if read.device == "cuda" else here["processor"],
        "commit": here["commit"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="A ViT and a ResNet from photographs.")
    parser.add_argument("places", nargs="*", type=Path, help="folders and tars to gather from")
    parser.add_argument("--gather", type=Path, help="write the photographs of the places into this tar")
    parser.add_argument("--photos", type=Path, help="the tar to learn from")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--only", choices=sorted(WISHES))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--overwrite", action="store_true")
    read = parser.parse_args()
    if read.gather:
        if not read.places:
            parser.error("no places to gather photographs from")
        print(f"{gather(read.places, read.gather):,} photographs in {read.gather}")
        return 0
    if read.photos is None or not read.photos.is_file():
        parser.error(f"there is no tar of photographs at {read.photos}; write one with --gather")
    RESULTS.mkdir(exist_ok=True)
    for name in [read.only] if read.only else sorted(WISHES):
        result = learn_one(name, read)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
