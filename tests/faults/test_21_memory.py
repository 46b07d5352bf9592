"""Where the memory of a device does not suffice, the batch is computed in smaller parts."""

import json

import pytest
import torch

from selfsight.core.errors import EnvironmentFault
from selfsight.data.loader import Loader
from selfsight.engine.fit import fit
from selfsight.engine.memory import is_out_of_memory, splitting_changes
from selfsight.engine.plan import Plan
from selfsight.methods.table import method_class
from selfsight.workflows.train.config import build, plan_of
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

from small import CPU, SMALL, settings, small_backbone, world


def limited(method: torch.nn.Module, most: int, failures: list[int], where: str = "forward") -> None:
    """Let the method run out of memory with more than ``most`` images, after it has updated its batch statistics."""
    forward = method.forward

    def tight(views, clock):
        outcome = forward(views, clock)
        if len(views) > most:
            failures.append(len(views))
            if where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            outcome.loss.register_hook(lambda gradient: (_ for _ in ()).throw(RuntimeError("MPS backend out of memory")))
            for name, value in outcome.losses.items():
                value.register_hook(lambda gradient: (_ for _ in ()).throw(RuntimeError("MPS backend out of memory")))
                assert name
        return outcome

    method.forward = tight  # pyright: ignore[reportAttributeAccessIssue]


def trained(name: str, most: int | None = None, where: str = "forward", batch: int = 10, **more):
    chosen = settings(name, batch=batch, steps=3, **more)
    method = build(chosen).double()
    said: list[str] = []
    failures: list[int] = []
    losses: list[float] = []
    if most is not None:
        limited(method, most, failures, where)

    class Double(Plan):
        def views(self, method, batch, clock, hardware):
            return [part.to(torch.float64) for part in super().views(method, batch, clock, hardware)]

        def extract(self, method, loader, hardware, network):
            return super().extract(method, loader, hardware, lambda pictures: network(pictures.double()))

    class Watch:
        def on_step(self, event):
            losses.append(sum(event.losses.values()))

    made = plan_of(chosen, method)
    plan = Double(made.seed, made.steps, made.batch, made.training, made.frame, made.accumulate, progress=said.append)
    fit(method, Loader(world(20, chosen.size), batch=batch, seed=0), plan, CPU, [Watch()])
    return method, said, failures, losses


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("name", "more"), [("mae", {}), ("rotnet", {"backbone": "vit_nano?patch=4"})])
def test_the_gradient_of_parts_is_that_of_the_batch(name, more, where):
    whole, _, _, expected = trained(name, **more)
    parts, said, failures, losses = trained(name, 3, where, **more)
    assert failures == [10, 5]  # images of the parts that were too large: 10, then 5 and 5, then 3, 3, 2 and 2
    assert "computed in 2 parts" in said[0]
    assert "computed in 4 parts" in said[1]
    assert all("its gradient is the same" in words for words in said)
    assert losses == pytest.approx(expected, rel=1e-9)
    for (title, value), other in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.allclose(value, other, rtol=1e-7, atol=1e-9), title


def test_changed_losses_are_reported():
    _, said, _, _ = trained("simclr", 4)
    assert "this changes the loss, because batch norm takes the statistics of a part and the loss compares the images" in said[0]
    assert splitting_changes(build(settings("rotnet"))) == "batch norm takes the statistics of a part"
    assert splitting_changes(build(settings("mae"))) == ""


def test_a_failed_attempt_leaves_no_trace():
    """Batch statistics and memory of a failed attempt are undone: the result is that of a run in parts from the start."""
    tight, _, failures, _ = trained("moco", 4, batch=8)
    given, _, _, _ = trained("moco", accumulate=2, batch=8)
    assert failures == [8]
    for (title, value), other in zip(given.state_dict().items(), tight.state_dict().values(), strict=True):
        assert torch.equal(value, other), title


@pytest.mark.parametrize(("name", "least"), [("mae", 1), ("simclr", 2)])
def test_the_smallest_part_ends_with_advice(name, least):
    with pytest.raises(EnvironmentFault, match=f"does not suffice for {least} images: CUDA out of memory") as fault:
        trained(name, 0, batch=8)
    assert fault.value.exit_code == 5
    assert "--size" in fault.value.remedy


def test_other_errors_pass():
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        Plan.take_step(*failing())


def failing():
    chosen = settings("simclr")
    method = build(chosen)
    plan = plan_of(chosen, method)

    def broken(*_):
        raise RuntimeError("shape mismatch")

    plan.views = broken  # pyright: ignore[reportAttributeAccessIssue]
    loader = Loader(world(), batch=8, seed=0)
    clock, batch = next(iter(plan.iter_batches(loader, CPU)))
    return plan, method, method, plan.optimiser(method), batch, clock, CPU


def test_passes_over_the_data_are_split_too():
    chosen = settings("deepcluster")
    method = build(chosen)
    plan = plan_of(chosen, method)
    loader = Loader(world(), batch=8, seed=0)
    sizes: list[int] = []

    def network(images):
        sizes.append(len(images))
        if len(images) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return method.backbone(images).pooled

    index, rows = plan.extract(method, loader, CPU, network)
    assert sizes == [32, 16, 8, 8, 16, 8, 8]
    assert torch.equal(index, torch.arange(32))
    assert torch.allclose(rows, plan.extract(method, loader, CPU, lambda images: method.backbone(images).pooled)[1], atol=1e-6)


def test_a_run_says_so_and_its_status_is_true(tmp_path, monkeypatch):
    cls, said = method_class("mae"), list[str]()
    forward, most = cls.forward, [3]

    def tight(self, views, clock):
        if len(views) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, views, clock)

    monkeypatch.setattr(cls, "forward", tight)
    request = TrainRequest(
        "world:shapes?count=16&size=16", method="mae", backbone=small_backbone("mae", 16), options=SMALL["mae"], size=16, batch=8, steps=2,
        device="cpu",
    )  # fmt: skip
    run_training(request, tmp_path / "run", RunPolicy(progress=said.append))
    assert any("warning: out of memory at step 1: the batch of 8 is computed in 4 parts" in words for words in said)
    most[0] = 0
    with pytest.raises(EnvironmentFault):
        run_training(request, tmp_path / "small", RunPolicy(progress=said.append))
    status = json.loads((tmp_path / "small" / "STATUS.json").read_text())
    assert status["status"] == "failed"
    assert "does not suffice for 1 images" in status["reason"]
