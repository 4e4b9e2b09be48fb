"""The labels of an index mask, and the class names of the data sets that public weights were trained on."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigError

IGNORE = 255
"""Label of pixels in a ground truth that no loss and no score counts."""

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, halves of characters, ends of lines and paragraphs


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The classes of a data set.

    Attributes:
        classes: names by class id.
        palette: (R, G, B) of each class; None stands for the PASCAL VOC colours.
        void: a further value that nothing counts, as 255 is.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] | None = None
    void: int = IGNORE

    def __post_init__(self) -> None:
        """Raise ConfigError for names that are none, or a class that nothing would count."""
        check_class_names(self.classes)
        if len(self.classes) > IGNORE:
            raise ConfigError(
                f"there are {len(self.classes)} classes; labelled data holds at most {IGNORE}, since the value "
                f"{IGNORE} marks pixels that are not counted"
            )


def check_class_names(names: Sequence[object]) -> None:
    """Raise ConfigError unless `names` is a list of names in the order of the class ids, each one different."""
    if not isinstance(names, list | tuple):
        raise ConfigError(f"classes are {names!r}; give a list of names, in the order of their class ids")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or any(map(_is_unprintable, name)):
            raise ConfigError(f"the name of class {index} is {name!r}; give text of one line")
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{count} classes are called {name!r}; give each a name of its own")


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in _UNPRINTABLE


_VOC = """
    background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
    pottedplant sheep sofa train tvmonitor
"""

# COCO's 91 thing labels (11 of them never annotated), then 91 of COCO-Stuff's stuff labels; both data sets' own order
_COCO_STUFF = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street sign,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, hat,
    backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
    baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork,
    knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair,
    couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop, mouse, remote,
    keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush, hair brush, banner, blanket, branch, bridge, building-other, bush,
    cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard,
    curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood,
    flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat,
    metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic,
    platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other,
    skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table, tent, textile-other, towel,
    tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood,
    water-other, waterdrops, window-blind, window-other, wood
"""

VOC_CLASSES = tuple(_VOC.split())
COCO_STUFF_CLASSES = tuple(name.strip() for name in _COCO_STUFF.split(","))
COCO_CLASSES = ("background", *COCO_STUFF_CLASSES[:90])

_BY_COUNT = {len(names): names for names in (VOC_CLASSES, COCO_CLASSES, COCO_STUFF_CLASSES)}


def class_names(count: int) -> tuple[str, ...]:
    """Name the classes of a file without names: VOC (21), COCO (91) or COCO-Stuff (182), else class_0, class_1 ..."""
    return _BY_COUNT.get(count, tuple(f"class_{index}" for index in range(count)))
