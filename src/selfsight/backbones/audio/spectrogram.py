"""Convolutional networks on log-mel spectrograms."""

from selfsight.backbones.image.resnet import BasicBlock, ResNet

__all__ = ["SpectrogramResNet", "spectrogram_tiny"]


class SpectrogramResNet(ResNet):
    """A residual network (He et al. 2015, arXiv:1512.03385) on spectrograms (N, C, mel, time), averaged over frequency and time."""

    modality = "sound"


def spectrogram_tiny(*, size: int = 96, channels: int = 1, width: int = 32, blocks: int = 1) -> SpectrogramResNet:
    """Four stages of basic blocks on log-mel spectrograms, of ``width`` to eight times ``width`` channels.

    Args:
        size: time steps of the training windows; up to 96 the stem keeps the resolution.
        channels: channels of the sound, such as 1 for mono.
        width: channels of the first stage.
        blocks: blocks in each stage.
    """
    return SpectrogramResNet(BasicBlock, (blocks,) * 4, [width * 2**stage for stage in range(4)], size=size, channels=channels)
