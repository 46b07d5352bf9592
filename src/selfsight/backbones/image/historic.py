"""Networks of 2012 to 2014 with their usual layer names: conv1, relu1, norm1, pool1, …, fc6, fc7, fc8.

Layers run in the order of their names, so that each can be captured or edited. Dropout is omitted, because random numbers inside a network
would differ between processes. ``batch_norm`` adds a batch norm ``bn…`` after each convolution and removes the local response
normalisation ``norm…``, as usual when these networks are trained without labels (DeepCluster, arXiv:1807.05520).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from selfsight.core.representation import Backbone, Features

__all__ = ["VGGM", "VGGVD16", "AlexNet", "GoogLeNet", "Inception"]

SMALL = 96
"""Networks for images up to this side in pixels have smaller strides and narrower fully connected layers."""


class _Named(Backbone):
    """Named layers in sequence; ``places`` is the name of the last spatial layer, which gives the grid."""

    def __init__(self, layers: Sequence[tuple[str, nn.Module]], *, places: str, size: int, channels: int, stride: int) -> None:
        super().__init__()
        for name, layer in layers:
            self.add_module(name, layer)
        self.channels, self.stride, self.places = channels, stride, places
        names = [name for name, _ in layers]
        self._trunk, self._neck = names[: names.index(places) + 1], names[names.index(places) + 1 :]
        self.cells = 0
        with torch.no_grad():
            self.cells = self._through(torch.zeros(1, channels, size, size)).shape[-1]

    def _through(self, images: Tensor) -> Tensor:
        """The convolutional layers and the pooling after them: input of the fully connected layers."""
        for name in (*self._trunk, *self._neck):
            images = getattr(self, name)(images)
        return images

    def finish(self, layers: Sequence[tuple[str, nn.Module]], dim: int) -> None:
        """Add the fully connected layers, and initialise all weights.

        Args:
            layers: the layers by name.
            dim: length of the output.
        """
        for name, layer in layers:
            self.add_module(name, layer)
        self._head, self.dim = [name for name, _ in layers], dim
        self.layers = tuple(name for name, child in self.named_children() if not isinstance(child, nn.Identity))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        grid = images
        for name in self._trunk:
            grid = getattr(self, name)(grid)
        value = grid
        for name in self._neck:
            value = getattr(self, name)(value)
        if value.shape[-1] != self.cells or value.shape[-2] != self.cells:  # images of another size than the network was built for
            value = adaptive_avg_pool2d(value, self.cells)
        value = value.flatten(1)
        for name in self._head:
            value = getattr(self, name)(value)
        return Features(value, grid)


def _conv(
    name: str, before: int, after: int, kernel: int, stride: int = 1, padding: int = 0, *, groups: int = 1, batch_norm: bool = False
) -> list[tuple[str, nn.Module]]:
    """A convolution ``conv…``, optional batch norm, and ``relu…``."""
    layers: list[tuple[str, nn.Module]] = [(f"conv{name}", nn.Conv2d(before, after, kernel, stride, padding, groups=groups))]
    layers += [(f"bn{name}", nn.BatchNorm2d(after))] if batch_norm else []
    return [*layers, (f"relu{name}", nn.ReLU())]


def _response(name: str, *, batch_norm: bool, total: float = 5e-4, offset: float = 2.0) -> list[tuple[str, nn.Module]]:
    """Local response normalisation over five channels (Krizhevsky et al. 2012, section 3.3); torch divides alpha by five."""
    return [] if batch_norm else [(f"norm{name}", nn.LocalResponseNorm(5, total, 0.75, offset))]


def _full(before: int, width: int, outputs: int) -> tuple[list[tuple[str, nn.Module]], int]:
    """fc6, fc7 and, if there are outputs, fc8; and the length of the output."""
    layers: list[tuple[str, nn.Module]] = [("fc6", nn.Linear(before, width)), ("relu6", nn.ReLU())]
    layers += [("fc7", nn.Linear(width, width)), ("relu7", nn.ReLU())]
    return ([*layers, ("fc8", nn.Linear(width, outputs))], outputs) if outputs else (layers, width)


def _step(size: int) -> int:
    """Stride of the first convolution for small images."""
    return 1 if size <= SMALL // 2 else 2


class AlexNet(_Named):
    """Five convolutions and three fully connected layers (Krizhevsky et al. 2012), 61 million parameters.

    Args:
        size: side of the training images (pixels); up to 96 the first convolution is 5 x 5 of stride 1 (2 above 48).
        channels: channels of the images.
        outputs: length of fc8; 0 omits fc8, and relu7 is the pooled vector.
        batch_norm: use batch norm instead of local response normalisation.
    """

    def __init__(self, *, size: int = 224, channels: int = 3, outputs: int = 1000, batch_norm: bool = False) -> None:
        small, norm = size <= SMALL, batch_norm
        first = (5, _step(size), 2) if small else (11, 4, 2)

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, 1 if small else 0)

        layers = [
            *_conv("1", channels, 96, *first, batch_norm=norm),
            *_response("1", batch_norm=norm),
            ("pool1", pool()),
            *_conv("2", 96, 256, 5, 1, 2, groups=2, batch_norm=norm),
            *_response("2", batch_norm=norm),
            ("pool2", pool()),
            *_conv("3", 256, 384, 3, 1, 1, batch_norm=norm),
            *_conv("4", 384, 384, 3, 1, 1, groups=2, batch_norm=norm),
            *_conv("5", 384, 256, 3, 1, 1, groups=2, batch_norm=norm),
            ("pool5", pool()),
        ]
        super().__init__(layers, places="relu5", size=size, channels=channels, stride=4 * first[1])
        self.finish(*_full(256 * self.cells**2, 1024 if small else 4096, outputs))


class VGGM(_Named):
    """CNN-M of Chatfield et al. 2014 (arXiv:1405.3531), 103 million parameters.

    Args:
        size: side of the training images (pixels); up to 96 strides are smaller.
        channels: channels of the images.
        outputs: length of fc8; 0 omits fc8, and relu7 is the pooled vector.
        batch_norm: use batch norm instead of local response normalisation.
    """

    def __init__(self, *, size: int = 224, channels: int = 3, outputs: int = 1000, batch_norm: bool = False) -> None:
        small, norm = size <= SMALL, batch_norm
        first, second = ((5, _step(size), 2), (5, 1, 2)) if small else ((7, 2, 0), (5, 2, 1))

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, 1) if small else nn.MaxPool2d(3, 2, ceil_mode=True)

        layers = [
            *_conv("1", channels, 96, *first, batch_norm=norm),
            *_response("1", batch_norm=norm),
            ("pool1", pool()),
            *_conv("2", 96, 256, *second, batch_norm=norm),
            *_response("2", batch_norm=norm),
            ("pool2", pool()),
            *_conv("3", 256, 512, 3, 1, 1, batch_norm=norm),
            *_conv("4", 512, 512, 3, 1, 1, batch_norm=norm),
            *_conv("5", 512, 512, 3, 1, 1, batch_norm=norm),
            ("pool5", pool()),
        ]
        super().__init__(layers, places="relu5", size=size, channels=channels, stride=4 * first[1] * second[1])
        self.finish(*_full(512 * self.cells**2, 1024 if small else 4096, outputs))


class VGGVD16(_Named):
    """Thirteen 3 x 3 convolutions, conv1_1 to conv5_3 (Simonyan and Zisserman 2014, arXiv:1409.1556), 138 million parameters.

    Args:
        size: side of the training images (pixels); up to 96 pool4 is omitted, to keep the resolution of conv5.
        channels: channels of the images.
        outputs: length of fc8; 0 omits fc8, and relu7 is the pooled vector.
        batch_norm: add batch norm.
    """

    def __init__(self, *, size: int = 224, channels: int = 3, outputs: int = 1000, batch_norm: bool = False) -> None:
        small, before = size <= SMALL, channels
        layers: list[tuple[str, nn.Module]] = []
        for stage, (depth, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
            for number in range(1, depth + 1):
                layers += _conv(f"{stage}_{number}", before, width, 3, 1, 1, batch_norm=batch_norm)
                before = width
            layers += [] if small and stage == 4 else [(f"pool{stage}", nn.MaxPool2d(2, 2))]
        super().__init__(layers, places="relu5_3", size=size, channels=channels, stride=8 if small else 16)
        self.finish(*_full(512 * self.cells**2, 1024 if small else 4096, outputs))


class Inception(nn.Module):
    """Parallel 1 x 1, 3 x 3 and 5 x 5 convolutions and pooling (Szegedy et al. 2014, arXiv:1409.4842, figure 2b).

    Args:
        before: channels of the input.
        widths: channels of 1 x 1, 3 x 3 reduction, 3 x 3, 5 x 5 reduction, 5 x 5 and pooling branch.
        batch_norm: add batch norm.
    """

    def __init__(self, before: int, widths: Sequence[int], *, batch_norm: bool) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths

        def unit(inputs: int, outputs: int, kernel: int) -> nn.Module:
            return nn.Sequential(*(layer for _, layer in _conv("", inputs, outputs, kernel, 1, kernel // 2, batch_norm=batch_norm)))

        self.one = unit(before, one, 1)
        self.three = nn.Sequential(unit(before, reduce3, 1), unit(reduce3, three, 3))
        self.five = nn.Sequential(unit(before, reduce5, 1), unit(reduce5, five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(before, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


_INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "pool3": (),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "pool4": (),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(_Named):
    """Nine inception modules, inception3a to inception5b (Szegedy et al. 2014, arXiv:1409.4842), 6 million parameters without fc8.

    The two auxiliary classifiers are omitted.

    Args:
        size: side of the training images (pixels); up to 96 the stem is a 3 x 3 convolution of stride 1 (2 above 48).
        channels: channels of the images.
        outputs: length of fc8; 0 omits fc8, and the spatial mean (pool5) is the pooled vector.
        batch_norm: use batch norm instead of local response normalisation.
    """

    def __init__(self, *, size: int = 224, channels: int = 3, outputs: int = 0, batch_norm: bool = False) -> None:
        small = size <= SMALL
        first = (3, _step(size), 1) if small else (7, 2, 3)
        pool: Callable[[], nn.Module] = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)  # noqa: E731
        layers: list[tuple[str, nn.Module]] = [
            *_conv("1", channels, 64, *first, batch_norm=batch_norm),
            ("pool1", nn.Identity() if small else pool()),
            *_response("1", batch_norm=batch_norm, total=1e-4, offset=1.0),
            *_conv("2_reduce", 64, 64, 1, batch_norm=batch_norm),
            *_conv("2", 64, 192, 3, 1, 1, batch_norm=batch_norm),
            *_response("2", batch_norm=batch_norm, total=1e-4, offset=1.0),
            ("pool2", pool()),
        ]
        before = 192
        for name, widths in _INCEPTIONS.items():
            layers.append((name, Inception(before, widths, batch_norm=batch_norm) if widths else pool()))
            before = widths[0] + widths[2] + widths[4] + widths[5] if widths else before
        layers.append(("pool5", nn.AdaptiveAvgPool2d(1)))
        stride = (1 if small else 2) * 8 * first[1]
        super().__init__(layers, places="inception5b", size=size, channels=channels, stride=stride)
        self.finish([("fc8", nn.Linear(before, outputs))] if outputs else [], outputs or before)
