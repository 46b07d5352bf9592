"""Golden values of every method: losses, gradient norms and states of two steps of the engine, in float64."""

import pytest
import torch

from selfsight.core.clock import Clock
from selfsight.core.method import Method
from selfsight.core.views import Images, Views
from selfsight.data.loader import Loader
from selfsight.engine.fit import fit
from selfsight.engine.hardware import Hardware
from selfsight.engine.observe import StepEvent
from selfsight.engine.plan import Plan, turns_of
from selfsight.methods.table import METHODS
from selfsight.workflows.train.config import build, plan_of

from golden import check
from small import CPU, settings, world

BATCH, STEPS = 8, 2

pytestmark = pytest.mark.slow


class DoublePlan(Plan):
    """The engine's plan with float64 inputs."""

    def views(self, method: Method, batch: Images, clock: Clock, hardware: Hardware) -> list[Views]:
        return [piece.to(torch.float64) for piece in super().views(method, batch, clock, hardware)]

    def extract(self, method, loader, hardware, network):
        return super().extract(method, loader, hardware, lambda pictures: network(pictures.double()))


class Watching:
    """Records the results of every step."""

    def __init__(self) -> None:
        self.found: dict = {}

    def on_step(self, event: StepEvent) -> None:
        step = f"step {event.clock.step}"
        names = [turn.name for turn in turns_of(event.method) for _ in range(turn.steps)]
        for number, (name, turn) in enumerate(zip(names, event.turns, strict=True)):
            at = f"{step}/turn {number} {name}" if len(names) > 1 else step
            self.found |= {f"{at}/loss {word}": float(loss.detach()) for word, loss in turn.outcome.losses.items()}
            self.found |= {f"{at}/gradient norm": turn.norm, f"{at}/rate": turn.rate, f"{at}/healthy": int(turn.healthy)}
        self.found[f"{step}/state"] = {name: tensor.clone() for name, tensor in event.method.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_method(name: str) -> None:
    chosen = settings(name, batch=BATCH, steps=STEPS)
    method = build(chosen).double()
    made = plan_of(chosen, method)
    plan = DoublePlan(made.seed, made.steps, made.batch, made.training, made.frame, made.accumulate)
    watching = Watching()
    fit(method, Loader(world(4 * BATCH, chosen.size), batch=BATCH, seed=0), plan, CPU, [watching])
    check(f"method.{name}", watching.found)
