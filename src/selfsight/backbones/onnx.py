"""Export of networks to ONNX."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from selfsight.core.errors import MissingExtra
from selfsight.core.representation import Backbone, Representation

__all__ = ["export_onnx"]


class _Plain(nn.Module):
    """A backbone with a tuple as output, for exporters."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return features.pooled, features.grid


def export_onnx(phi: Representation, target: Path) -> Path:
    """Write a network as one file: normalised images in, pooled vectors and last grid out; any batch size.

    Args:
        phi: the representation.
        target: path of the file.

    Raises:
        MissingExtra: the packages onnx and onnxscript are not installed.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise MissingExtra("onnx", "export", "Exporting to ONNX")
    example = torch.zeros(2, phi.backbone.channels, phi.size, phi.size)
    torch.onnx.export(
        _Plain(phi.backbone).eval(),
        (example,),
        str(target),
        input_names=["images"],
        output_names=["pooled", "grid"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return target
