"""The things that stand in a scene, each a `Sprite`: walls, trees, fences, poles, balls and parasols.

Every function takes the random generator, the picture's (height, width), the point (x, foot) where the thing stands and
its size, all in pixels, and the sun for its shading.
"""

import math

import numpy as np

from pipeline.scenes.canvas import Point, Sprite, Stencil, Sun
from pipeline.scenes.textures import bricks, colour, mix, noise

BRICK, TREE, FENCE, POLE, BALL, PARASOL = range(4, 10)
Shape = tuple[int, int]

PAINTS = [
    colour(0.85, 0.15, 0.12), colour(0.95, 0.80, 0.15), colour(0.12, 0.35, 0.75), colour(0.10, 0.55, 0.35),
    colour(0.92, 0.45, 0.10), colour(0.60, 0.20, 0.55), colour(0.95, 0.95, 0.93), colour(0.15, 0.15, 0.18),
]  # fmt: skip
WOODS = [colour(0.88, 0.87, 0.84), colour(0.45, 0.31, 0.20), colour(0.62, 0.47, 0.30), colour(0.16, 0.17, 0.19)]


def wall(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a brick wall that runs off to one side in perspective; some have battlements or an opening."""
    (height, width), (x0, foot) = shape, at
    span, end = rng.uniform(0.5, 1.4) * width, size * rng.uniform(0.55, 1.0)
    slope = (end - size) * 0.35 / span
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5 - x0
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    tall = np.maximum(size + (end - size) * x / span, 1.0)
    v = (foot + slope * x - y) / tall
    # 1 / distance is linear along the picture, so the way along the wall is t * end / tall, t linear.
    u = np.broadcast_to(x / size * (end / tall), v.shape)
    stencil = Stencil(height, width)

    def corner(along: float, up: float) -> Point:
        return x0 + along, foot + slope * along - up * (size + (end - size) * along / span)

    stencil.polygon([corner(0, 0), corner(0, 1), corner(span, 1), corner(span, 0)])
    if rng.uniform() < 0.35:
        for k in range(1, 18, 2):
            a, b = k * span / 18, (k + 1) * span / 18
            stencil.polygon([corner(a, 0.86), corner(a, 1.1), corner(b, 1.1), corner(b, 0.86)], inside=False)
    if rng.uniform() < 0.4:
        a, b = span * rng.uniform(0.15, 0.4), span * rng.uniform(0.45, 0.65)
        turns = np.linspace(0, math.pi, 9)
        arch = [corner((a + b - math.cos(t) * (b - a)) / 2, 0.5 + 0.3 * math.sin(t)) for t in turns]
        stencil.polygon([corner(a, 0), *arch, corner(b, 0)], inside=False)
    stains = 1.0 + 0.10 * noise(rng, height, width, 40)
    light = rng.uniform(0.6, 1.05) * (1.0 + 0.15 * sun.side * x / width) * (0.82 + 0.18 * np.clip(v * 3, 0, 1))
    faces = bricks(rng, u, 1 - v, int(rng.integers(9, 20))) * stains * light
    return Sprite(BRICK, stencil.coverage(), faces, foot - slope * x0, slope)


def tree(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a tree: a branching trunk, and on most trees clumps of leaves with gaps between them."""
    height, width = shape
    wood, leaves, lit = Stencil(height, width), Stencil(height, width), Stencil(height, width)
    tips = _branch(rng, wood, at, -math.pi / 2 + rng.normal(0, 0.06), size * 0.32, size * 0.065, 5)
    bare = rng.uniform() < 0.2
    if not bare:
        for x, y in tips:
            r = size * rng.uniform(0.05, 0.11)
            leaves.ellipse(x, y, r * 1.2, r)
            lit.ellipse(x + sun.side * r * 0.4, y - r * 0.4, r * 0.8, r * 0.6)
    speckle = noise(rng, height, width, max(size / 110, 1.5))
    gaps = np.clip(2.6 + 1.8 * noise(rng, height, width, max(size / 18, 3.0)) + 0.4 * speckle, 0, 1)
    crown = leaves.coverage() * gaps
    hue = FOLIAGE[rng.integers(len(FOLIAGE))] * rng.uniform(0.8, 1.2)
    shine = 0.55 + 0.45 * lit.coverage() + 0.22 * speckle
    bark = WOODS[1] * rng.uniform(0.5, 1.2) * (1.0 + 0.2 * noise(rng, height, width, 6, stretch=0.3))
    trunk = wood.coverage()
    colours = mix(bark.astype(np.float32), np.clip(hue * shine, 0, 1), crown)
    return Sprite(TREE, np.maximum(trunk, crown), colours, at[1])


FOLIAGE = [colour(0.22, 0.42, 0.14), colour(0.14, 0.30, 0.16), colour(0.38, 0.48, 0.16), colour(0.62, 0.36, 0.12)]


def _branch(
    rng: np.random.Generator, wood: Stencil, start: Point, angle: float, length: float, width: float, depth: int
) -> list[Point]:
    """Draw a branch and what grows from it; return the points where leaves sit."""
    end = start[0] + math.cos(angle) * length, start[1] + math.sin(angle) * length
    wood.line(start, end, max(width, 0.8), max(width * 0.65, 0.8))
    if depth == 0:
        return [end]
    tips = [end] if depth < 4 else []
    for turn in (-1, 1) if rng.uniform() < 0.6 else (-1, 0, 1):
        bend = turn * rng.uniform(0.25, 0.75) + rng.normal(0, 0.1)
        tips += _branch(rng, wood, end, angle + bend, length * rng.uniform(0.62, 0.85), width * 0.6, depth - 1)
    return tips


def fence(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a fence across the picture: pickets or iron bars on rails, with open gaps between them."""
    (height, width), (x0, foot) = shape, at
    iron = rng.uniform() < 0.35
    pitch = size * (rng.uniform(0.13, 0.2) if iron else rng.uniform(0.24, 0.42))
    bar = pitch * (rng.uniform(0.22, 0.35) if iron else rng.uniform(0.4, 0.62))
    slope = rng.uniform(-0.06, 0.06)
    stencil = Stencil(height, width)
    count = int(rng.uniform(0.35, 1.1) * width / pitch)
    for k in range(count):
        x = x0 + k * pitch
        y, w = foot + slope * (x - x0), max(bar, 1.2) / 2
        top = y - size * (1 + 0.03 * rng.normal())
        stencil.polygon([(x - w, y), (x - w, top + 2 * w), (x, top), (x + w, top + 2 * w), (x + w, y)])
    reach = (count - 1) * pitch
    for level in (0.25, 0.75):
        rail = max(size * (0.05 if iron else 0.09), 1.2)
        y = foot - level * size
        stencil.line((x0 - bar, y), (x0 + reach + bar, y + slope * reach), rail)
    paint = WOODS[3] if iron else WOODS[rng.integers(3)]
    across = (np.arange(width, dtype=np.float32) + 0.5 - x0) / pitch
    light = 1.0 + 0.10 * noise(rng, height, width, 8, stretch=0.2) + 0.12 * sun.side * np.sin(2 * math.pi * across)
    return Sprite(FENCE, stencil.coverage(), paint * light, foot - slope * x0, slope)


def pole(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a pole: a street lamp with its arm, a round or square sign, a telegraph pole, or a banded post."""
    (height, width), (x, foot) = shape, at
    thick, top = max(size * rng.uniform(0.02, 0.045), 2.0), foot - size
    mast, head = Stencil(height, width), Stencil(height, width)
    mast.line((x, foot), (x, top), thick, thick * 0.8)
    kind = rng.integers(4)
    if kind == 0:
        arm = size * rng.uniform(0.15, 0.28) * (1 if rng.uniform() < 0.5 else -1)
        mast.line((x, top + thick / 2), (x + arm, top - size * 0.03), thick * 0.7)
        head.ellipse(x + arm, top - size * 0.015, size * 0.06, size * 0.028)
    elif kind == 1:
        r = size * rng.uniform(0.09, 0.15)
        if rng.uniform() < 0.5:
            head.ellipse(x, top, r, r)
        else:
            head.polygon([(x - r, top - r), (x + r, top - r), (x + r, top + r), (x - r, top + r)])
    elif kind == 2:
        for level in (0.06, 0.14):
            y, arm = top + level * size, size * rng.uniform(0.12, 0.2)
            mast.line((x - arm, y), (x + arm, y), thick * 0.7)
    across = (np.arange(width, dtype=np.float32) + 0.5 - x) / thick
    shading = np.clip(0.85 + 0.35 * sun.side * across, 0.45, 1.15)[None, :]
    colours = np.broadcast_to((WOODS[rng.integers(4)] * 0.9) * shading, (3, height, width))
    if kind == 3:
        bands = (np.arange(height, dtype=np.float32) // max(size / rng.uniform(6, 10), 3)) % 2
        colours = mix(PAINTS[rng.integers(3)], PAINTS[6], np.broadcast_to(bands[:, None], shape)) * shading
    plate = head.coverage()
    return Sprite(POLE, np.maximum(mast.coverage(), plate), mix(colours, PAINTS[rng.integers(7)], plate), foot)


def ball(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a ball: plain, spotted, or in gores like a beach ball; lit from the side, with a highlight."""
    (height, width), (x, foot) = shape, at
    r = size / 2
    stencil = Stencil(height, width)
    stencil.ellipse(x, foot - r, r, r)
    nx = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - x) / r
    ny = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - (foot - r)) / r
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))
    turn = rng.uniform(0, 2 * math.pi)
    px, py = nx * math.cos(turn) - ny * math.sin(turn), nx * math.sin(turn) + ny * math.cos(turn)
    one, two = rng.choice(len(PAINTS) - 1, 2, replace=False)
    kind = rng.integers(3)
    if kind == 0:
        second = np.floor(np.arctan2(px, nz + 0.35 * py) * 6 / math.pi) % 2
    elif kind == 1:
        second = np.sin(7 * px) * np.sin(7 * py) * np.sin(7 * nz + 1) > 0.25
    else:
        second = np.zeros_like(nz)
    paint = mix(PAINTS[one], PAINTS[two], second.astype(np.float32))
    light = np.clip(0.35 + 0.75 * (0.5 * sun.side * nx - 0.6 * ny + 0.62 * nz), 0.18, 1.2)
    shine = np.clip(0.45 * sun.side * nx - 0.55 * ny + 0.70 * nz, 0, 1) ** 40 * 0.6
    return Sprite(BALL, stencil.coverage(), np.clip(paint * light + shine, 0, 1), foot)


def parasol(rng: np.random.Generator, shape: Shape, at: Point, size: float, sun: Sun) -> Sprite:
    """Draw a parasol: a dome of striped cloth with a scalloped hem on a thin stick, planted at a slant."""
    (height, width), (x, foot) = shape, at
    tilt = rng.uniform(-0.16, 0.16)
    apex = x + math.sin(tilt) * size, foot - math.cos(tilt) * size
    r, drop = size * rng.uniform(0.38, 0.58), size * rng.uniform(0.25, 0.42)
    gores = int(rng.integers(4, 8))

    def local(sideways: float, down: float) -> Point:
        return (
            apex[0] + sideways * math.cos(tilt) - down * math.sin(tilt),
            apex[1] + sideways * math.sin(tilt) + down * math.cos(tilt),
        )

    stick, dome = Stencil(height, width), Stencil(height, width)
    stick.line((x, foot), local(0, -0.04 * size), max(size * 0.025, 1.4))
    arc = [local(r * math.sin(t), drop * (1 - math.cos(t))) for t in np.linspace(-math.pi / 2, math.pi / 2, 41)]
    hem = [local(r * s, drop * (1 - 0.12 * abs(math.sin(math.pi * gores * s)))) for s in np.linspace(1, -1, 8 * gores)]
    dome.polygon(arc + hem)
    dx = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - apex[0]) / r
    dy = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - apex[1]) / drop
    stripe = np.floor(np.arctan2(dx, np.abs(dy) + 0.05) * gores * 2 / math.pi + 0.5) % 2
    one, two = rng.choice(len(PAINTS), 2, replace=False)
    light = np.clip(0.92 + 0.22 * sun.side * dx - 0.12 * dy, 0.5, 1.15) * (1 + 0.03 * noise(rng, height, width, 2))
    cloth = mix(PAINTS[one], PAINTS[two], stripe.astype(np.float32)) * light
    stem, cover = colour(0.82, 0.80, 0.76) * rng.uniform(0.4, 1.0), dome.coverage()
    return Sprite(PARASOL, np.maximum(stick.coverage(), cover), mix(stem, np.clip(cloth, 0, 1), cover), foot)
