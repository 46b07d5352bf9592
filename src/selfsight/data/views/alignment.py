"""Two views of a sample without changes of colour or loudness, for measures of alignment."""

from selfsight.core.method import Recipe
from selfsight.data.views.clip.recipes import ClipView, TwoClips
from selfsight.data.views.image.geometry import Normalise
from selfsight.data.views.image.recipes import PLAIN, TwoCrops
from selfsight.data.views.sound.recipes import SoundView, TwoSounds

__all__ = ["ALIGNMENT_VIEWS"]

_PIXELS = Normalise((0.0,) * 3, (1.0,) * 3)
_CLIP, _SOUND = ClipView(light=0.0), SoundView(gain=0.0, time=0.0, mel=0.0)

ALIGNMENT_VIEWS: dict[str, Recipe] = {
    "image": TwoCrops(PLAIN, PLAIN, _PIXELS),
    "clip": TwoClips(_CLIP, _CLIP, _PIXELS),
    "sound": TwoSounds(_SOUND, _SOUND),
}
"""By modality. Images and clips in [0, 1]; sounds as they are."""
