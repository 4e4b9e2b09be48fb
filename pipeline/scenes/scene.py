"""One scene from a seed: sky, ground, what stands on it, and the camera; with the true class of each pixel.

The pictures are made so that a network and a dense CRF both have work to do: grass, sand and water meet along wavy
shores, things hide one another, fences, branches, sticks and poles are a few pixels wide, shadows and light change the
colour of a surface without changing its class, and the camera adds haze, blur and noise.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.scenes import textures, things
from pipeline.scenes.canvas import Canvas, Sun
from pipeline.scenes.textures import Array, Ground, colour

CLASSES = ("sky", "grass", "sand", "water", "brick", "tree", "fence", "pole", "ball", "parasol")
PALETTE = (
    (135, 190, 250), (95, 175, 60), (235, 205, 130), (35, 95, 175), (180, 75, 55),
    (20, 95, 45), (245, 245, 240), (250, 130, 20), (235, 40, 150), (120, 50, 170),
)  # fmt: skip
"""Colours of the classes, near those of the things themselves."""

SKY, GRASS, SAND, WATER = range(4)
GROUNDS = (GRASS, SAND, WATER)

# What may stand in a scene: how it is drawn, how often it is picked, and its height at the front of the picture,
# as a share of the picture's height.
THINGS = (
    (things.wall, 1.0, (0.5, 1.1)),
    (things.tree, 1.6, (0.8, 1.5)),
    (things.fence, 1.3, (0.25, 0.5)),
    (things.pole, 1.5, (0.7, 1.3)),
    (things.ball, 2.2, (0.14, 0.4)),
    (things.parasol, 1.3, (0.5, 0.9)),
)


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Generate the scene of a seed, always the same one.

    Args:
        seed: a whole number, not negative.
        size: (width, height) in pixels.

    Returns:
        The picture (H, W, 3) uint8 RGB, and its truth (H, W) uint8, indices into CLASSES without a void label.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    ground = Ground(height, width, height * rng.uniform(0.15, 0.6))
    sun = Sun(lean=rng.uniform(-1.1, 1.1), reach=rng.uniform(0.12, 0.4), strength=rng.uniform(0.15, 0.6))
    sky = textures.sky(rng, height, width, ground.horizon)
    canvas = Canvas(sky, SKY)
    haze = sky[:, max(int(ground.horizon) - 1, 0)].mean(axis=1)[:, None, None]
    _lay_ground(rng, canvas, ground, sky, haze)
    _skyline(rng, canvas, ground, haze)
    _stand_things(rng, canvas, ground, sun, haze)
    return _photograph(rng, canvas.image), canvas.truth


def _lay_ground(rng: np.random.Generator, canvas: Canvas, ground: Ground, sky: Array, haze: Array) -> None:
    """Paint two surfaces, or three, that meet along shores and paths on the plane."""
    painters = {
        GRASS: lambda: textures.grass(rng, ground),
        SAND: lambda: textures.sand(rng, ground),
        WATER: lambda: textures.water(rng, ground, sky),
    }
    labels = rng.choice(GROUNDS, rng.integers(2, 4), replace=False, p=(0.4, 0.35, 0.25))
    light = 1.0 + 0.12 * textures.noise(rng, ground.height, ground.width, ground.height / 2.5)
    far = np.clip(1.0 - 4 * ground.nearness, 0, 1) * rng.uniform(0, 0.5)
    below = np.clip(np.arange(ground.height, dtype=np.float32) + 1 - ground.horizon, 0, 1)[:, None]
    for k, label in enumerate(labels):
        region = below if k == 0 else below * _region(rng, ground)
        surface = textures.mix(painters[int(label)]() * light, haze, far)
        canvas.paint(int(label), np.broadcast_to(region, far.shape), surface)


def _region(rng: np.random.Generator, ground: Ground) -> Array:
    """Pick a part of the plane and return its coverage (H, W): a winding path, a pond, or all beyond a shore."""
    wobble = ground.sample(textures.tileable(rng, 2.2), 0.12) * 0.25
    across, away = ground.across + wobble, ground.away
    kind = rng.integers(3)
    if kind == 0:
        bend = rng.uniform(-0.6, 0.6) + rng.uniform(-0.5, 0.5) * away + 0.3 * np.sin(away * rng.uniform(0.5, 1.5))
        inside = rng.uniform(0.2, 0.5) - np.abs(across - bend)
    elif kind == 1:
        middle, centre, radius = rng.uniform(1.3, 3.0), rng.uniform(-0.8, 0.8), rng.uniform(0.5, 1.2)
        inside = radius + wobble - np.hypot(across - centre, away - middle)
    else:
        inside = away + 2 * wobble - rng.uniform(1.3, 3.0) + rng.uniform(-1, 1) * across
    steps = np.hypot(*np.gradient(inside)) + 1e-6
    return np.asarray(np.clip(0.5 + inside / steps, 0, 1), np.float32)


def _skyline(rng: np.random.Generator, canvas: Canvas, ground: Ground, haze: Array) -> None:
    """Paint a far wood along the horizon of some scenes."""
    if rng.uniform() < 0.45:
        return
    height, width = ground.height, ground.width
    ragged = np.abs(textures.fractal(rng, 1, width, width / rng.uniform(4, 14), 5)) * height * rng.uniform(0.02, 0.06)
    rows = ground.horizon - np.arange(height, dtype=np.float32)[:, None]
    lines = np.clip(ragged + height * 0.015 - rows, 0, 1) * np.clip(rows + 3, 0, 1)
    green = things.FOLIAGE[rng.integers(3)] * (0.8 + 0.15 * textures.noise(rng, height, width, 4))
    canvas.paint(things.TREE, lines, green + (haze - green) * rng.uniform(0.2, 0.5))


def _stand_things(rng: np.random.Generator, canvas: Canvas, ground: Ground, sun: Sun, haze: Array) -> None:
    """Pick what stands in the scene, far to near, with the size and the haze of its distance."""
    odds = np.array([odd for _, odd, _ in THINGS])
    picks = rng.choice(len(THINGS), rng.integers(4, 9), p=odds / odds.sum())
    near = np.sort(rng.uniform(0.12, 1.05, len(picks)) ** 1.3)
    for pick, nearness in zip(picks.tolist(), near.tolist(), strict=True):
        draw, _, (low, high) = THINGS[pick]
        foot = ground.horizon + nearness * (ground.height - ground.horizon)
        size = max(rng.uniform(low, high) * (0.25 + 0.75 * nearness), 0.06) * ground.height
        at = rng.uniform(-0.1 if draw in (things.wall, things.fence) else 0.02, 0.98) * ground.width, foot
        sprite = draw(rng, (ground.height, ground.width), at, size, sun)
        veil = max(0.0, 0.35 - 0.6 * nearness)
        sprite.colours = sprite.colours + (haze - sprite.colours) * veil
        canvas.place(sprite, sun, GROUNDS)


def _photograph(rng: np.random.Generator, image: Array) -> NDArray[np.uint8]:
    """Apply a camera: light falling off to one side, colour balance, exposure, blur of the lens, noise."""
    _, height, width = image.shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None, :], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    falloff = 1.0 + rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.06, 0.06) * y - 0.06 * (x**2 + y**2)
    balance = colour(*rng.normal(1.0, 0.04, 3)) * rng.uniform(0.88, 1.2)
    exposed = np.clip(image * falloff * balance, 0, 1) ** rng.uniform(0.85, 1.15)
    sharp = Image.fromarray((exposed * 255).astype(np.uint8).transpose(1, 2, 0))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9) * height / 240)), np.float32)
    grain = rng.standard_normal(blurred.shape, dtype=np.float32) * rng.uniform(1.5, 6.0)
    return np.clip(blurred + grain + 0.5, 0, 255).astype(np.uint8)
