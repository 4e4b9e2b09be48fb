"""Noise and surface textures: float32 arrays; pictures are RGB planes (3, H, W) in 0..1, colours are (3, 1, 1).

Ground textures live on a flat plane seen in perspective: `Ground` gives each pixel below the horizon its place on that
plane, and `Ground.sample` reads a tileable texture there, fading it where a texel becomes smaller than a pixel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]
"""Float32 everywhere; NumPy does not type the results of its functions that narrowly."""

TILE = 256


def colour(*rgb: float) -> Array:
    """Make an array (3, 1, 1) of an RGB colour."""
    return np.array(rgb, np.float32)[:, None, None]


def mix(low: Array, high: Array, weight: Array) -> Array:
    """Blend two colours or pictures by a weight (H, W) in 0..1: (3, H, W)."""
    return low + (high - low) * weight


def noise(rng: np.random.Generator, height: int, width: int, cell: float, stretch: float = 1.0) -> Array:
    """Make smooth noise (H, W), mean 0 and deviation about 1; features of `cell` pixels, `stretch` times as wide."""
    rows, columns = int(height / cell) + 3, int(width / (cell * stretch)) + 3
    grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    box = (1.0, 1.0, 1.0 + width / (cell * stretch), 1.0 + height / cell)
    return 1.3 * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=box))


def fractal(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> Array:
    """Sum noises (H, W) whose features and amplitudes halve from one to the next; deviation about 1."""
    layers = [noise(rng, height, width, max(cell / 2**k, 1.0)) / 2**k for k in range(octaves)]
    return np.asarray(sum(layers)) / 1.15


def tileable(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> Array:
    """Make noise (TILE, TILE) that repeats without a seam, with amplitude 1 / frequency**slope, mean 0, deviation 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE), dtype=np.float32))
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    frequency = np.hypot(fy, fx * stretch).astype(np.float32)
    frequency[0, 0] = np.inf
    texture = np.fft.irfft2(spectrum / frequency**slope, s=(TILE, TILE))
    return np.asarray(texture / texture.std())


@dataclass(frozen=True)
class Ground:
    """A ground plane below `horizon` (a row): pixel (y, x) shows plane point (across, away), the camera at (0, 0)."""

    height: int
    width: int
    horizon: float

    @cached_property
    def nearness(self) -> Array:
        """Return (H, W): 0 from the horizon up, 1 at the bottom row; a thing there is this much of its full size."""
        rows = np.arange(self.height, dtype=np.float32) + 0.5
        near = np.clip((rows - self.horizon) / (self.height - self.horizon), 0.0, 1.0)
        return np.broadcast_to(near[:, None], (self.height, self.width))

    @cached_property
    def away(self) -> Array:
        """Return the distance from the camera (H, W), 1 at the bottom row."""
        return 1.0 / np.maximum(self.nearness, 0.01)

    @cached_property
    def across(self) -> Array:
        """Return the distance to the right of the camera (H, W), about -0.67..0.67 along the bottom row."""
        columns = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.height
        return columns[None, :] * self.away

    def sample(self, texture: Array, density: float) -> Array:
        """Read a tileable texture (TILE, TILE), `density` tiles a plane unit: (H, W), faded towards the horizon."""
        u = (self.across * (density * TILE)).astype(np.int64) % TILE
        v = (self.away * (density * TILE)).astype(np.int64) % TILE
        texels_a_pixel = density * TILE * self.away**2 / (self.height - self.horizon)
        return texture[v, u] / (1.0 + 0.15 * texels_a_pixel)


def sky(rng: np.random.Generator, height: int, width: int, horizon: float) -> Array:
    """Paint a sky (3, H, W): one of four kinds of weather, a gradient down to the horizon, and clouds."""
    zenith, low, cloud = SKIES[rng.integers(len(SKIES))]
    rows = np.linspace(0, height / max(horizon, 1.0), height, dtype=np.float32)
    blue = mix(zenith, low, np.broadcast_to(np.clip(rows, 0, 1)[:, None] ** 1.5, (height, width)))
    cover = fractal(rng, height, width, height / rng.uniform(2.5, 6)) + rng.uniform(-1.6, 0.6)
    shade = 1.0 - 0.12 * np.clip(noise(rng, height, width, height / 6), 0, 1)
    return mix(blue, cloud * shade, np.clip(cover * 0.6, 0, 0.9))


SKIES = [
    (colour(0.25, 0.47, 0.80), colour(0.68, 0.82, 0.94), colour(0.96, 0.96, 0.97)),
    (colour(0.45, 0.60, 0.80), colour(0.86, 0.88, 0.90), colour(0.90, 0.90, 0.91)),
    (colour(0.58, 0.62, 0.68), colour(0.76, 0.77, 0.78), colour(0.66, 0.68, 0.71)),
    (colour(0.36, 0.40, 0.62), colour(0.96, 0.72, 0.50), colour(0.93, 0.70, 0.62)),
]


def grass(rng: np.random.Generator, ground: Ground) -> Array:
    """Paint grass (3, H, W): patches on the plane, and upright blades that grow longer towards the camera."""
    dry, lush = rng.uniform(0.75, 1.25, 2)
    patches = ground.sample(tileable(rng, 1.4), 0.5) + ground.sample(tileable(rng, 0.8), 1.0)
    blades = noise(rng, ground.height, ground.width, 5.0, stretch=0.25) * (0.25 + 0.75 * ground.nearness)
    tone = np.clip(0.5 + 0.16 * patches + 0.13 * blades, 0, 1)
    return mix(colour(0.10 * dry, 0.22, 0.06), colour(0.46 * dry, 0.62 * lush, 0.22), tone)


def sand(rng: np.random.Generator, ground: Ground) -> Array:
    """Paint sand or gravel (3, H, W): fine or coarse grain, and ripples in the sand."""
    coarse = rng.uniform() < 0.4
    base = colour(0.60, 0.57, 0.53) if coarse else colour(0.80, 0.70, 0.50)
    tint = base * rng.uniform(0.85, 1.1) + colour(*rng.uniform(-0.03, 0.03, 3))
    grain = ground.sample(tileable(rng, 0.3 if coarse else 0.1), 0.7 if coarse else 1.3)
    patches = ground.sample(tileable(rng, 1.3), 0.4)
    ripples = np.sin(ground.away * 40 + 3 * patches) * ground.nearness**2 * (0.0 if coarse else 1.0)
    tone = 1.0 + (0.14 if coarse else 0.06) * grain + 0.06 * patches + 0.025 * ripples
    return np.asarray(tint * tone)


def water(rng: np.random.Generator, ground: Ground, sky_picture: Array) -> Array:
    """Paint water (3, H, W): the sky above it upside down, darker and tinted, broken by waves, with a few glints."""
    rows = np.clip(2 * ground.horizon - np.arange(ground.height), 0, ground.height - 1).astype(np.int64)
    deep = colour(0.08, 0.26, 0.30) * rng.uniform(0.7, 1.4)
    mirror = mix(sky_picture[:, rows] * 0.8, deep, 0.35 + 0.5 * ground.nearness)
    waves = ground.sample(tileable(rng, 1.0, stretch=0.3), rng.uniform(0.4, 0.9))
    waves = waves + 0.5 * noise(rng, ground.height, ground.width, 2.0, stretch=5.0)
    glints = np.clip(waves - 1.7, 0, 1) * 0.5
    return np.asarray(np.clip(mirror * (1.0 + 0.13 * waves) + glints, 0, 1))


def bricks(rng: np.random.Generator, u: Array, v: Array, rows: int) -> Array:
    """Paint bricks (3, H, W) at wall coordinates u (wall heights along it) and v (0 at the top, 1 at the foot)."""
    course = np.floor(v * rows).astype(np.int64)
    along = u * rows / 2.3 + 0.5 * (course % 2)
    brick = np.floor(along).astype(np.int64)
    tones = rng.standard_normal((64, 64), dtype=np.float32)[course % 64, brick % 64]
    joint = np.minimum(_edge(v * rows), 2.3 * _edge(along))
    stone = colour(0.58, 0.27, 0.20) if rng.uniform() < 0.7 else colour(0.62, 0.55, 0.46)
    mortar = colour(0.70, 0.67, 0.62) * rng.uniform(0.7, 1.1)
    face = (stone * rng.uniform(0.8, 1.15)) * (1.0 + 0.16 * tones)
    grain = 1.0 + 0.07 * noise(rng, u.shape[0], u.shape[1], 1.5)
    return mix(mortar, face, np.clip((joint - 0.06) / 0.10, 0, 1)) * grain


def _edge(position: Array) -> Array:
    """Return the distance to the nearest whole number."""
    return np.abs(position - np.round(position)).astype(np.float32)
