"""The connected regions of a mask as polygons with holes, along the borders of pixels: nothing is lost or smoothed."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
"""(x, y) of a corner of a pixel: pixel (row, column) is the square from (column, row) to (column + 1, row + 1)."""

Ring = list[Point]
"""Corners in turn, the first not repeated."""

_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""(row, column) steps along the top, right, bottom and left side of a pixel, walked with the pixel on the right."""

_OUTWARD = ((-1, 0), (0, 1), (1, 0), (0, -1))
_START = ((0, 0), (0, 1), (1, 1), (1, 0))
"""From a pixel across each of its sides; and from its (row, column) to the corner where that side begins."""


@dataclass(kw_only=True)
class Region:
    """Pixels of one class that touch by their sides.

    Attributes:
        label: the class id.
        exterior: its outer border, anticlockwise by x and y (clockwise as one sees it, since y grows downwards).
        holes: the borders of what lies within and is no part of it, the other way round.
    """

    label: int
    exterior: Ring
    holes: list[Ring] = field(default_factory=list)

    @property
    def area(self) -> int:
        """Return its pixels."""
        return _area(self.exterior) + sum(_area(hole) for hole in self.holes)


@dataclass(frozen=True, kw_only=True)
class _Border:
    """Sides of pixels that lie between different classes, by number: the pixel's (row, column), side, successor."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    sides: NDArray[np.int64]
    following: NDArray[np.int64]
    places: NDArray[np.int64]
    """Of each in an array of all sides, flat and ascending; the array itself would take most of the memory."""
    all_sides: tuple[int, int, int]
    """Shape of that array: 4, H, W."""


def regions(mask: NDArray[np.uint8], labels: Collection[int]) -> Iterator[Region]:
    """Find the regions of classes.

    Args:
        mask: (H, W) uint8.
        labels: class ids; other pixels belong to no region.

    Yields:
        Regions, from the top down and from the left to the right. Their polygons are valid as OGC's Simple Features
        has it: a border that meets itself in a point is two rings.
    """
    border = _border(mask, labels)
    rings, ring_of = _rings(border)
    exteriors: dict[int, Region] = {}
    holes = []
    for number, (points, sides) in enumerate(rings):
        if _area(points) > 0:
            first = sides[0]
            label = int(mask[border.rows[first], border.columns[first]])
            exteriors[number] = Region(label=label, exterior=points)
        else:
            holes.append(number)
    owners: dict[int, int] = {number: number for number in exteriors}
    for number in holes:
        path = []
        while number not in owners:
            path.append(number)
            number = ring_of[_side_to_the_left(border, rings[number][1])]
        for passed in path:
            owners[passed] = owners[number]
            exteriors[owners[number]].holes.append(rings[passed][0])
    yield from exteriors.values()


def _border(mask: NDArray[np.uint8], labels: Collection[int]) -> _Border:
    """Find the sides, and for each the one that follows it along the border, with the same region on the right."""
    height, width = mask.shape
    own = np.full(256, -1, np.int16)
    own[list(labels)] = list(labels)
    values = np.full((height + 2, width + 2), -1, np.int16)  # a frame of no class, so that every pixel has neighbours
    values[1:-1, 1:-1] = own[mask]
    inner = values[1:-1, 1:-1]

    def across(step: Point) -> NDArray[np.int64]:
        neighbours = values[1 + step[0] : 1 + step[0] + height, 1 + step[1] : 1 + step[1] + width]
        return np.flatnonzero((inner >= 0) & (neighbours != inner))

    all_sides = (4, height, width)
    places = np.concatenate([across(step) + side * mask.size for side, step in enumerate(_OUTWARD)])
    sides, rows, columns = np.unravel_index(places, all_sides)
    ahead, outward = np.array(_AHEAD)[sides], np.array(_OUTWARD)[sides]
    at = np.stack([rows, columns], axis=1)
    label = inner[rows, columns]
    front = _same(values, at + ahead, label)
    corner = front & _same(values, at + ahead + outward, label)
    pixel = at + ahead * front[:, None] + outward * corner[:, None]
    turned = np.where(corner, sides + 3, np.where(front, sides, sides + 1)) % 4
    following = np.searchsorted(places, np.ravel_multi_index((turned, *pixel.T), all_sides))
    return _Border(rows=rows, columns=columns, sides=sides, following=following, places=places, all_sides=all_sides)


def _same(values: NDArray[np.int16], at: NDArray[np.int64], label: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Tell whether the pixels `at` (N, 2) have the values `label` (N,); `values` has a frame of one."""
    is_same: NDArray[np.bool_] = values[at[:, 0] + 1, at[:, 1] + 1] == label
    return is_same


def _rings(border: _Border) -> tuple[list[tuple[Ring, list[int]]], dict[int, int]]:
    """Walk along all sides; gives rings as (corners, numbers of their sides), and the ring of each side."""
    following = border.following.tolist()
    sides = border.sides.tolist()
    corners = np.array(_START)[border.sides] + np.stack([border.rows, border.columns], axis=1)
    starts = [(x, y) for y, x in corners.tolist()]
    order = np.lexsort((border.columns, border.rows)).tolist()
    rings: list[tuple[Ring, list[int]]] = []
    ring_of: dict[int, int] = {}
    for first in order:
        if first in ring_of:
            continue
        walked: list[int] = []
        seen: dict[Point, int] = {}
        side = first
        while True:
            point = starts[side]
            if point in seen:  # the walk has come back to a corner: what lies between is a ring of its own
                loop = walked[seen[point] :]
                del walked[seen[point] :]
                for passed in loop:
                    del seen[starts[passed]]
                    ring_of[passed] = len(rings)
                turns = [
                    one for one, before in zip(loop, [loop[-1], *loop[:-1]], strict=True) if sides[one] != sides[before]
                ]
                rings.append(([starts[one] for one in turns], loop))
                if side == first and not walked:
                    break
            seen[point] = len(walked)
            walked.append(side)
            side = following[side]
    return rings, ring_of


def _side_to_the_left(border: _Border, sides: list[int]) -> int:
    """Find the border to the left of a hole's highest side: it is of the same region, and further up or left."""
    highest = min((border.rows[side], border.columns[side]) for side in sides if border.sides[side] == 2)
    place = np.ravel_multi_index((3, *highest), border.all_sides)
    return int(np.searchsorted(border.places, place, "right")) - 1


def _area(ring: Ring) -> int:
    """Return the area of a ring in pixels, below 0 for a hole."""
    following = ring[1:] + ring[:1]
    return sum(x * after_y - after_x * y for (x, y), (after_x, after_y) in zip(ring, following, strict=True)) // 2
