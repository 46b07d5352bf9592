"""Draw docs/overview.jpg: clusters, detected objects and saliency maps of photographs by one network.

``python docs/readme_figure.py [MODEL]``: a run's folder, ``timm:NAME`` or ``timm:local-dir:FOLDER``. The photographs are those of
scikit-image's wheel (astronaut, rocket, hubble, moon: NASA, public domain; chelsea, coffee, brick, grass, gravel, coins: CC0 or public domain).
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

import selfsight
from selfsight.data.readers.photo import photograph

mpl.use("Agg")
from matplotlib import pyplot as plt

MODEL = "timm:tf_efficientnet_lite0"
PHOTOGRAPHS = ("astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble", "moon", "rocket")
OBJECTS = ("astronaut", "chelsea", "coffee", "rocket")
CROPS, SIDE, ROWS, ACROSS = 14, 160, 5, 8


def write_crops(folder: Path) -> None:
    """Random square crops of every photograph, as files."""
    rng = np.random.default_rng(0)
    for name in PHOTOGRAPHS:
        image = Image.fromarray(photograph(name).transpose(1, 2, 0))
        for number in range(CROPS):
            side = int(min(image.size) * rng.uniform(0.45, 0.8))
            left, top = (int(rng.integers(0, whole - side + 1)) for whole in image.size)
            image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(
                folder / f"{name}{number}.png"
            )


def square(name: str) -> np.ndarray:
    """The central square of a photograph."""
    image = Image.fromarray(photograph(name).transpose(1, 2, 0))
    side, (width, height) = min(image.size), image.size
    box = ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
    return np.asarray(image.crop(box).resize((320, 320), Image.Resampling.LANCZOS))


def main() -> int:
    """Draw the figure."""
    model = sys.argv[1] if len(sys.argv) > 1 else MODEL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crops, whole = folder / "crops", folder / "whole"
        crops.mkdir()
        whole.mkdir()
        write_crops(crops)
        for photo in OBJECTS:
            Image.fromarray(square(photo)).save(whole / f"{photo}.png")
        run = selfsight.Run(model)
        run.path = folder / "run"
        clusters, _ = run.discover(str(crops), what="clusters", count=len(PHOTOGRAPHS), baselines=False)
        objects, _ = run.discover(str(whole), what="boxes", method="cut", baselines=False)
        files = [str(whole / f"{photo}.png") for photo in OBJECTS]
        maps = run.explain(files, target="code", methods=["grad_cam"]).maps["grad_cam"]
        draw([np.asarray(Image.open(file)) for file in files], clusters, objects, maps, crops)
    return 0


def draw(photographs: list[np.ndarray], clusters: object, objects: object, maps: object, crops: Path) -> None:
    """Clusters on the left; photographs, objects and maps on the right."""
    figure = plt.figure(figsize=(13.2, 4.5), dpi=100)
    left, right = figure.subfigures(1, 2, width_ratios=(1.45, 1))
    left.suptitle("clusters of 140 crops, without labels", x=0.02, ha="left", fontsize=12)
    right.suptitle("objects found, and a saliency map", x=0.02, ha="left", fontsize=12)
    grid = left.subplots(
        ROWS, ACROSS, gridspec_kw={"left": 0.02, "right": 0.99, "bottom": 0.01, "top": 0.91, "wspace": 0.04, "hspace": 0.04}
    )
    order = [number for number in range(len(PHOTOGRAPHS)) if (clusters.labels == number).sum() >= ACROSS]
    for line, number in zip(grid, order, strict=False):
        rows = np.flatnonzero(clusters.labels == number)
        rows = rows[np.argsort(-clusters.nearness[rows])][:ACROSS]
        for axes, row in zip(line, rows, strict=False):
            axes.imshow(Image.open(crops / clusters.names[row]))
    grid2 = right.subplots(3, 4, gridspec_kw={"left": 0.02, "right": 0.99, "bottom": 0.01, "top": 0.91, "wspace": 0.04, "hspace": 0.04})
    names = [Path(name).stem for name in objects.names]
    for column, (photo, image) in enumerate(zip(OBJECTS, photographs, strict=True)):
        row = names.index(photo)
        grid2[0, column].imshow(image)
        grid2[1, column].imshow(image)
        for left_, top, right_, bottom in np.asarray(objects.boxes(row))[:1, :4]:
            scale = image.shape[0] / objects.sizes[row][0]
            box = plt.Rectangle(
                (left_ * scale, top * scale), (right_ - left_) * scale, (bottom - top) * scale, fill=False, ec="#e66100", lw=2.5
            )
            grid2[1, column].add_patch(box)
        heat = np.asarray(maps[column], dtype=np.float32).squeeze()
        grid2[2, column].imshow(image)
        heat = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-9)
        heat = np.asarray(Image.fromarray(heat).resize(image.shape[1::-1], Image.Resampling.BILINEAR))
        grid2[2, column].imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.savefig(Path(__file__).parent / "overview.jpg", pil_kwargs={"quality": 85})


if __name__ == "__main__":
    sys.exit(main())
