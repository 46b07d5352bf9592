"""Discoveries are scored next to baselines that depend on the data alone, not on cached results of the representation."""

from pathlib import Path
from typing import Any

import pytest

from selfsight.backbones.loading import untrained
from selfsight.data.opening import open_source
from selfsight.discover.dense.features import FeatureSpec
from selfsight.measure.results import Score
from selfsight.workflows.discover.discovery import Discovery
from selfsight.workflows.discover.run import discover


def test_baselines_share_options_but_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = []

    def baseline(self: Discovery, phi: Any, source: Any, method: str, **options: Any) -> dict[str, Score]:
        calls.append((phi.name, method, options))
        return {"CorLoc": Score(0.1 * len(calls), 0.0, 1.0)}

    monkeypatch.setattr(Discovery, "baseline", baseline)
    phi, source, spec = untrained("resnet_tiny?width=4", size=32), open_source("world:shapes?count=4&size=32"), FeatureSpec(vectors=3)
    _, scores = discover(phi, source, "boxes", "cut", feature_spec=spec, threshold=0.3, cache=tmp_path)
    own = [options for _, method, options in calls if method == "cut"]
    assert len(own) == 6  # three seeds with two forms of batch statistics
    assert all(options == {"feature_spec": spec, "threshold": 0.3} for options in own)
    others = {method: options for _, method, options in calls if method != "cut"}
    assert others == {"border": {"feature_spec": spec}, "centre": {"feature_spec": spec}}
    assert set(scores["CorLoc"]) == {"cut", "untrained", "border", "centre"}
    assert scores["CorLoc"]["untrained"].value == pytest.approx(0.5)  # the second form, the mean of 0.4, 0.5 and 0.6
    assert any(tmp_path.rglob("*.npz"))
