"""Wrong input has one line of cause and one of remedy, and no traceback."""

import pytest

import selfsight
from selfsight.backbones.loading import untrained
from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.explain.synthesis.comparison import layer_at
from selfsight.explorer.server.opening import _listener
from selfsight.workflows.evaluate.probes import evaluate
from selfsight.workflows.train.request import TrainRequest

WORLD = "world:shapes?count=8&size=32"
NETWORK = "untrained:resnet_tiny?width=4"


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["learn", WORLD, "--steps", "-3"], 2, "steps is -3, and must be at least 0."),
        (["learn", WORLD, "--minutes", "-1"], 2, "-1 minutes are no time to train."),
        (["learn", WORLD, "--batch", "0"], 2, "batch is 0, and must be at least 2."),
        (["learn", WORLD, "--accumulate", "0"], 2, "accumulate is 0, and must be at least 1."),
        (["learn", WORLD, "--save-every", "0"], 2, "save_every is 0, and must be at least 1."),
        (["learn", WORLD, "--size", "0"], 2, "size is 0, and must be at least 8."),
        (["learn", WORLD, "--precision", "fp16"], 2, "There is no precision 'fp16'."),
        (["learn", WORLD, "--steps", "1", "--out", "/proc/selfsight"], 5, "/proc/selfsight: No such file or directory"),
        (["explain", "attribute", NETWORK, f"{WORLD}#3-1"], 2, "'3-1' in"),
        (["explain", "maximise", NETWORK], 2, "There is no target."),
        (
            ["explain", "compare", NETWORK, "untrained:resnet_tiny", "--data", WORLD, "--depth", "3"],
            2,
            "depth is 3, and must be at least 0 and at most 1.",
        ),
        (["explain", "attribute", NETWORK, f"{WORLD}#0", "--target", "unit:stages.2/1@99,99"], 2, "positions, and none at 99,99."),
        (["measure", "untrained:spectrogram_tiny", "--train", WORLD, "--test", WORLD], 2, "takes sounds."),
        (
            ["measure", NETWORK, "--train", WORLD, "--test", WORLD, "--probes", "layers", "--layers", "stages.9"],
            2,
            "There is no layer 'stages.9'.",
        ),
        (["explain", "attribute", NETWORK, "nofile.jpg"], None, "it does not exist"),
    ],
    ids=lambda value: "-".join(value[:1] + value[-2:]).replace("/", "_") if isinstance(value, list) else None,
)
def test_wrong_input_is_named(capsys, words, code, cause):
    found = main(words)
    error = capsys.readouterr().err
    assert found == code if code else found
    assert cause in error
    lines = error.splitlines()
    (first,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert len(lines) == first + 2
    assert lines[-1].startswith("  ")


@pytest.mark.parametrize("port", [-1, 65_536])
def test_ports_have_bounds(port):
    with pytest.raises(UsageError, match=f"{port} is not a port"):
        _listener(port)


def test_similar_models_of_timm_are_suggested(capsys):
    assert main(["explain", "attribute", "timm:resnt18", f"{WORLD}#0"]) == 2
    assert "resnet18" in capsys.readouterr().err


def test_wrong_keywords_are_suggested():
    with pytest.raises(UsageError) as error:
        selfsight.learn(WORLD, stesp=3)  # pyright: ignore[reportCallIssue]
    assert "'steps'" in error.value.remedy


def test_requests_accept_the_smallest_values():
    TrainRequest(WORLD, steps=0, epochs=None, batch=2, size=8, accumulate=1, workers=0, save_every=1)
    TrainRequest(WORLD, epochs=0)


def test_probes_can_be_one_text_and_layers_are_those_named():
    phi, source = untrained("resnet_tiny?width=4", size=32), open_source("world:shapes?count=24&size=32")
    found = evaluate(phi, source, source, probes="knn,layers", layers=["stages.1"], baselines=False)
    assert set(found.scores) == {"knn", "layers"}
    assert set(found.scores["layers"]) == {"stages.1"}


def test_depths_and_positions_have_bounds():
    phi = untrained("resnet_tiny?width=4", size=32)
    assert (layer_at(phi, 0.0), layer_at(phi, 1.0)) == (phi.layers[0], phi.layers[-1])
    for depth in (-0.1, 1.1):
        with pytest.raises(UsageError, match="not between 0 and 1"):
            layer_at(phi, depth)
