"""Whether the evidence lies on the object."""

from pathlib import Path

import pytest
import torch

from selfsight.explain.checks.diagnosis import diagnose
from selfsight.workflows.explain_inputs import read_images

from nets import spot


def test_detects_evidence_outside_the_object(tmp_path: Path) -> None:
    phi, images, target = spot(32)  # which looks at rows and columns 4 to 11
    objects = torch.zeros(2, 32, 32, dtype=torch.bool)
    objects[0, 4:12, 4:12] = True
    objects[1, 20:30, 20:30] = True
    found = diagnose(phi, images, target, objects=objects, names=["on", "off"], areas=(0.4, 0.1), required_fraction=0.8)
    assert found.object_fraction is not None
    assert found.background_fraction is not None
    assert float(found.object_fraction[0]) > 0.8 > 0.2 > float(found.background_fraction[0])
    assert float(found.object_fraction[1]) < 0.2 < 0.8 < float(found.background_fraction[1])
    assert 0 not in found.suspects.tolist()
    assert found.suspects.tolist()[0] == 1
    assert found.areas.tolist() == pytest.approx([0.1, 0.1], abs=0.02)
    assert all(path.is_file() for path in found.save(tmp_path))
    plain = found.to_json()
    assert plain["evidence outside the object"][0] == "off"
    assert plain["images"][0]["share"] >= 0.8


def test_without_objects_there_are_no_suspects() -> None:
    phi, images, target = spot(32)
    found = diagnose(phi, images, target, areas=(0.05,), required_fraction=2.0, steps=5)
    assert found.object_fraction is None
    assert found.background_fraction is None
    assert not len(found.suspects)
    assert found.to_json()["evidence outside the object"] is None


def test_objects_are_read_with_the_images() -> None:
    phi, _, _ = spot(32)
    asked = read_images(["world:shapes?count=4&size=32#1,2"], phi)
    assert asked.objects is not None
    assert asked.objects.shape == (2, 32, 32)
    assert 0.02 < asked.objects.float().mean() < 0.4
