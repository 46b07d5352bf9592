"""Trains every method on one and on two processes, in float64. Run by spawned processes, without pytest."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from selfsight.core.clock import Clock
from selfsight.core.distribute import all_reduce_mean, local_rows, rank
from selfsight.core.method import Method
from selfsight.core.views import Images, Views
from selfsight.data.loader import Loader, load_images
from selfsight.data.views.image.recipes import PLAIN, TwoCrops, small_multi_crop
from selfsight.engine.fit import fit
from selfsight.engine.hardware import Hardware
from selfsight.engine.observe import StepEvent
from selfsight.engine.plan import Plan, joined
from selfsight.methods.table import METHODS
from selfsight.workflows.train.config import build, plan_of

from small import CPU, settings, world

BATCH, STEPS = 8, 2
TURNED = TwoCrops(PLAIN, replace(PLAIN, turn=1.0))
CASES: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS} | {
    "simclr with small views": {"method": "simclr", "options": {"recipe": small_multi_crop(1)}},
    "moco in 2 groups": {"method": "moco", "options": {"groups": 2}},
    "moco whole": {"method": "moco", "options": {"groups": 1}},
    "dino on a transformer": {"method": "dino", "backbone": "vit_nano"},
    "dino with a softmax over the batch": {"method": "dino", "options": {"balance": "softmax"}},
    "ibot with a plain head": {"method": "ibot", "options": {"head_norm": False}},
    "dinov2 with batch norm in its heads": {"method": "dinov2", "options": {"head_norm": True}},
    "dinov2 with sinkhorn": {"method": "dinov2", "options": {"balance": "sinkhorn"}},
    "pirl by turns": {"method": "pirl", "options": {"recipe": TURNED, "tiles": 0}},
    "pirl with drawn negatives": {"method": "pirl", "options": {"negatives": 8}},
    "cmc with drawn negatives": {"method": "cmc", "options": {"negatives": 8}},
    "mae in pieces": {"method": "mae", "accumulate": 2},
}
"""Accumulation is the same on any number of processes where no layer takes batch statistics."""


@dataclass
class DoublePlan(Plan):
    """The engine's plan with float64 inputs; records the gradient of every step and turn."""

    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    loader: Loader | None = None

    def views(self, method: Method, batch: Images, clock: Clock, hardware: Hardware) -> list[Views]:
        """Views are made for the global batch and then split, because float32 products depend on the number of rows in the last bit."""
        assert self.loader is not None
        whole = load_images(self.loader.source, self.loader.rows(clock.step))
        assert torch.equal(local_rows(whole.index), batch.index)
        groups = self.groups(method, whole, clock)
        made = joined([method.recipe.make(group, method.recipe.draw(self.batch, event, self.frame)) for group, event in groups])
        made = self.with_labels(method, made.map(local_rows).to(torch.float64))
        return [made.map(lambda tensor, piece=piece: tensor.chunk(self.accumulate)[piece]) for piece in range(self.accumulate)]

    def extract(self, method: Method, loader: Loader, hardware: Hardware, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return super().extract(method, loader, hardware, lambda pictures: network(pictures.double()))

    def _norm(self, method: Method) -> float:
        named = method.named_parameters()
        self.gradients.append({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})
        return super()._norm(method)


class Losses:
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        self.values += [float(all_reduce_mean(turn.outcome.loss.detach())) for turn in event.turns]


def run(case: str) -> dict[str, Any]:
    """The losses, gradients and final state of a short run."""
    more = {name: value for name, value in CASES[case].items() if name != "method"}
    chosen = settings(CASES[case]["method"], batch=BATCH, steps=STEPS, **more)
    steady = replace(chosen.training, optimiser="sgd", rate=0.1)  # Adam divides rounding errors by their own size
    chosen = replace(chosen, training=steady)
    method = build(chosen).double()
    made = plan_of(chosen, method)
    loader = Loader(world(2 * BATCH, chosen.size), batch=BATCH, seed=0)
    plan = DoublePlan(made.seed, made.steps, made.batch, made.training, made.frame, made.accumulate, loader=loader)
    losses = Losses()
    fit(method, loader, plan, CPU, [losses])
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    return {"losses": losses.values, "gradients": plan.gradients, "state": state, "trained": _trained(method)}


def _trained(method: nn.Module) -> list[str]:
    return [name for name, parameter in method.named_parameters() if parameter.requires_grad]


def _share_a_core() -> None:
    """With few cores the pair uses one, to avoid waiting for other tests in thousands of small reductions."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if 1 < len(cores) < 4:
        os.sched_setaffinity(0, {max(cores)})


def work(number: int, folder: str) -> None:
    """Half of the cases alone, then all of them together with the other process."""
    torch.set_num_threads(1)
    _share_a_core()
    where = Path(folder)
    with (where / f"said{number}.txt").open("w") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    alone = {case: run(case) for case in list(CASES)[number::2]}
    torch.save(alone, where / f"alone{number}.pt")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    together = {case: run(case) for case in CASES}
    assert rank() == number
    torch.save(together, where / f"together{number}.pt")
    dist.destroy_process_group()
