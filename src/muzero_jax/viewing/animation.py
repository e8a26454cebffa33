"""Captioned animations as GIF files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.core.files import replacing
from muzero_jax.viewing.canvas import pillow

_STRIP_HEIGHT = 26
# The captions need this width; a narrower picture stands in the middle.
_MIN_WIDTH = 220
_STRIP_COLOUR, _TEXT_COLOUR = (255, 255, 255), (51, 51, 51)
# The palette of an animation has this many colours, and is made from this many of its frames.
_NUM_COLOURS, _PALETTE_FRAMES = 64, 12


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture of an animation.

    Attributes:
      image: `[H, W, 3]` uint8.
      left: caption below the picture, at the left.
      right: caption below the picture, at the right.
      seconds: time for which the picture is shown.
    """

    image: np.ndarray
    left: str
    right: str
    seconds: float


def write_gif(frames: Sequence[Frame], out: Path) -> None:
    """Writes an endlessly repeating GIF, with the captions in a strip below the pictures.

    All frames share one palette of 64 colours, so that nothing flickers and the file stays small.

    Args:
      frames: at least one frame; all images have the same shape.
      out: the GIF to write; its folder is made where it is missing.

    Raises:
      ValueError: there are no frames, or their shapes differ.
      MissingExtraError: Pillow is not installed.
    """
    shapes = {frame.image.shape for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"an animation needs frames of one shape, found {sorted(shapes)}.")
    image_module = pillow("Image")
    pictures = [_add_captions(frame) for frame in frames]
    chosen = np.unique(np.linspace(0, len(pictures) - 1, _PALETTE_FRAMES).round().astype(int))
    mosaic = np.concatenate([np.asarray(pictures[index]) for index in chosen])
    palette = image_module.fromarray(mosaic).quantize(_NUM_COLOURS)
    no_dither = image_module.Dither.NONE
    indexed = [picture.quantize(palette=palette, dither=no_dither) for picture in pictures]
    out.parent.mkdir(parents=True, exist_ok=True)
    durations = [max(round(frame.seconds * 100), 2) * 10 for frame in frames]
    options = {"append_images": indexed[1:], "duration": durations, "loop": 0}
    with replacing(out) as temporary:
        indexed[0].save(temporary, format="GIF", save_all=True, **options)


def _add_captions(frame: Frame) -> Any:
    """Puts the picture above a strip with its captions."""
    image_module = pillow("Image")
    height, image_width, _ = frame.image.shape
    width = max(image_width, _MIN_WIDTH)
    picture = image_module.new("RGB", (width, height + _STRIP_HEIGHT), _STRIP_COLOUR)
    picture.paste(image_module.fromarray(frame.image), ((width - image_width) // 2, 0))
    font = pillow("ImageFont").load_default(13)
    draw = pillow("ImageDraw").Draw(picture)
    middle = height + _STRIP_HEIGHT / 2
    draw.text((8, middle), frame.left, _TEXT_COLOUR, font=font, anchor="lm")
    draw.text((width - 8, middle), frame.right, _TEXT_COLOUR, font=font, anchor="rm")
    return picture
