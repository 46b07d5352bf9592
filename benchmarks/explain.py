"""Attribution compared with captum, and masks with TorchRay if available, on one network and the same images in one run.

    python benchmarks/explain.py --run RUN --data DATA                          # captum
    python benchmarks/explain.py --run RUN --data DATA --torchray FOLDER        # and TorchRay

Limit: an attribution cannot be faster than the passes through the network that its formula requires (integrated gradients: a forward
and a backward pass per node; occlusion and RISE: a forward pass per window or mask; extremal perturbation: both per step and area), in
full batches. The ratio to that limit is the overhead. RUN must have been evaluated (its linear probe is the target).
Peak memory is that of a separate process, in addition to network and images.
"""

import argparse
import json
import resource
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfsight.api import Run
from selfsight.core.origin import origin
from selfsight.core.pixels import as_normalised
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square
from selfsight.explain.attribution import saliency as ours
from selfsight.explain.attribution.backprop import reverse
from selfsight.explain.attribution.perturbation import between, extremal_perturbation, pyramid
from selfsight.explain.attribution.saliency import score_fraction
from selfsight.explain.targets import Target, argmax_target, probe_class

RESULTS = Path(__file__).parent / "results" / "explain.json"
AREAS = (0.05, 0.1, 0.2, 0.4)
NODES, MASKS, STEPS = 50, 500, 100


class Case:
    """A network with a class for each image, as a target and as a classifier for other packages."""

    def __init__(self, folder: str, data: str, count: int) -> None:
        run = Run(folder)
        self.phi: Representation = run.phi
        source = open_source(data, size=self.phi.size)
        self.images = central_square(load_images(source, np.arange(count)), self.phi.size)
        probe = probe_class(Readout.load(run.path / "measures" / "linear"), 0)
        self.target: Target = argmax_target(probe, self.phi, self.images)
        self.labels = torch.as_tensor(self.target.which)
        self.given = self.phi.normalise(self.images)
        self.classifier = Classifier(self.phi, self.target).eval()


class Classifier(nn.Module):
    """Logits of the probe for normalised images."""

    def __init__(self, phi: Representation, target: Target) -> None:
        super().__init__()
        self.backbone, self.read = phi.backbone, target.read

    def forward(self, given: Tensor) -> Tensor:
        return self.read(self.backbone(given).pooled)


def seconds(action: Callable[[], Any], repeats: int) -> float:
    """Median seconds of some calls, after one warm-up call."""
    action()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def passes(case: Case, count: int, *, backward: bool) -> float:
    """Seconds of passes of images through the network with the fastest batch size: the limit."""
    at_once = ours.at_once(case.given.shape[-2:], case.phi.device)
    batch = case.given[torch.arange(at_once) % len(case.given)]

    def forward() -> None:
        with torch.no_grad():
            case.target.numbers(case.phi, batch)

    def both() -> None:
        reverse(case.phi, as_normalised(batch), case.target.at(0))

    return seconds(both if backward else forward, 3) * count / at_once


def beside_captum(case: Case, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of selfsight, captum and the limit, and the largest difference of the maps."""
    import captum.attr as captum

    net, given, labels, phi = case.classifier, case.given, case.labels, case.phi
    layer = phi.layers[-1]
    window, count = max(phi.size // 5, 2), len(given)
    sizes = {"sliding_window_shapes": (3, window, window), "strides": (3, window // 2, window // 2)}
    at_once = max(128 // count, 1)
    windows = (-(-(phi.size - window) // (window // 2)) + 1) ** 2
    cam, integrated, hidden = (
        captum.LayerGradCam(net, phi.backbone.get_submodule(layer)),
        captum.IntegratedGradients(net),
        captum.Occlusion(net),
    )
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], float]] = {
        "grad_cam": (
            lambda: ours.saliency(phi, case.images, case.target, at=layer, combine=ours.positive_sum),
            lambda: captum.LayerAttribution.interpolate(
                cam.attribute(given, target=labels, relu_attributions=True), (phi.size, phi.size), interpolate_mode="bilinear"
            ),
            passes(case, count, backward=True),
        ),
        "integrated_gradients": (
            lambda: ours.path_integral(phi, given, case.target, steps=NODES),
            lambda: integrated.attribute(given, target=labels, n_steps=NODES, method="gausslegendre", internal_batch_size=128),
            passes(case, NODES * count, backward=True),
        ),
        "occlusion": (
            lambda: ours.occlusion(phi, case.images, case.target, window=window, stride=window // 2),
            lambda: hidden.attribute(given, **sizes, baselines=0, target=labels, perturbations_per_eval=at_once)[:, :1],
            passes(case, windows * count, backward=False),
        ),
    }
    found = {}
    for name, (mine, theirs, limit) in pairs.items():
        apart = float((mine() - theirs()).abs().max())
        times = seconds(mine, repeats), seconds(theirs, repeats)
        found[name] = {"seconds": times[0], "captum": times[1], "limit": limit, "faster": times[1] / times[0], "largest difference": apart}
    return found


def beside_torchray(case: Case) -> dict[str, dict[str, float]]:
    """Extremal perturbation: seconds per image, error of the visible area, fraction of the score that is kept; RISE: seconds per mask."""
    from torchray.attribution.extremal_perturbation import extremal_perturbation as theirs
    from torchray.attribution.extremal_perturbation import simple_reward
    from torchray.attribution.rise import rise

    phi, count = case.phi, len(case.given)
    started = time.perf_counter()
    mine = extremal_perturbation(phi, case.images, case.target, areas=AREAS, steps=STEPS)
    spent = time.perf_counter() - started
    step = max(round(phi.size / 32), 1)  # their pixels, in the proportions that they have at 224
    started, masks = time.perf_counter(), []
    for one, label in zip(case.given, case.labels.tolist(), strict=True):
        made, _ = theirs(case.classifier, one[None], label, areas=list(AREAS), step=step, sigma=3 * step, reward_func=simple_reward)
        masks.append(made[:, 0].detach())
    spent_there = time.perf_counter() - started
    image = torch.arange(count).repeat_interleave(len(AREAS))
    there = torch.stack(masks).flatten(0, 1)[:, None]
    with torch.no_grad():
        kept = ours.scores(phi, between(pyramid(case.given)[image], there), case.target, image).view(count, -1)
    share = score_fraction(kept, mine.full_score, mine.baseline_score)
    area = torch.tensor(AREAS)
    result = {
        "extremal_perturbation": {
            "seconds an image": spent / count,
            "torchray": spent_there / count,
            "faster": spent_there / spent,
            "limit": passes(case, STEPS * len(AREAS), backward=True),
            "area error": float((mine.visible - area).abs().mean()),
            "torchray's area error": float((there.mean((1, 2, 3)).view(count, -1) - area).abs().mean()),
            "share kept": float(mine.share.nanmean()),
            "torchray's share kept": float(share.nanmean()),
        }
    }
    times = (
        seconds(lambda: ours.rise(phi, case.images[:1], case.target.at(int(case.labels[0])), masks=MASKS), 1),
        seconds(lambda: rise(case.classifier, case.given[:1], int(case.labels[0]), num_masks=MASKS), 1),
    )
    result["rise"] = {
        "seconds": times[0],
        "torchray": times[1],
        "faster": times[1] / times[0],
        "limit": passes(case, MASKS, backward=False),
    }
    return result


def resident() -> float:
    """Present memory of this process in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak(folder: str, data: str, count: int, name: str) -> float:
    """Peak memory of a method in megabytes in addition to network and images, in a separate process; sampled every millisecond."""
    import captum.attr as captum

    case = Case(folder, data, count)
    window = {"sliding_window_shapes": (3, 6, 6), "strides": (3, 3, 3)}
    actions: dict[str, Callable[[], Any]] = {
        "integrated_gradients": lambda: ours.path_integral(case.phi, case.given, case.target, steps=NODES),
        "captum's integrated gradients": lambda: captum.IntegratedGradients(case.classifier).attribute(
            case.given, target=case.labels, n_steps=NODES, internal_batch_size=128
        ),
        "occlusion": lambda: ours.occlusion(case.phi, case.images, case.target),
        "captum's occlusion": lambda: captum.Occlusion(case.classifier).attribute(
            case.given, **window, target=case.labels, perturbations_per_eval=max(128 // count, 1)
        ),
        "extremal_perturbation": lambda: extremal_perturbation(case.phi, case.images, case.target, areas=AREAS, steps=3),
    }
    before, most, done = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    actions[name]()
    done.set()
    watcher.join()
    return round(max(most) - before, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torchray", default="", help="a folder that contains the package torchray")
    read = parser.parse_args()
    warnings.simplefilter("ignore")
    case = Case(read.run, read.data, read.images)
    result: dict[str, Any] = {"images": read.images, "size": case.phi.size, "network": case.phi.spec, "threads": torch.get_num_threads()}
    result["beside captum"] = beside_captum(case, read.repeats)
    if read.torchray:
        sys.path.insert(0, read.torchray)
        result["beside TorchRay"] = beside_torchray(case)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        names = (
            "integrated_gradients",
            "captum's integrated gradients",
            "occlusion",
            "captum's occlusion",
            "extremal_perturbation",
        )
        result["megabytes"] = {name: pool.apply(peak, (read.run, read.data, read.images, name)) for name in names}
    here = origin()
    result |= {"machine": here["processor"], "commit": here["commit"]}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
