"""One scene of the `shapes` data set: what stands where, who covers whom, and the annotations that follow.

Who covers whom needs category and geometry together: a class of a higher tier lies on one of a lower tier, as a spoon
lies on a plate; between classes of one tier the one whose lower edge is lower in the picture is in front. A few
objects are out of order, so that no rule is always right.
"""

import dataclasses

import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.data.records.png import encode_image, encode_indices, index_ids
from sognet_jax.data.records.relations import map_rles
from sognet_jax.data.records.schema import InstanceAnnotations, Record, Segments, related
from sognet_jax.data.sources.shapes.drawing import outline_mask, paint_object, stuff_texture

TIERS = (('tray', 'rug'), ('ball', 'box', 'cone', 'cross', 'egg'), ('star', 'ring', 'leaf'))
TIER_OF = {name: tier for tier, names in enumerate(TIERS) for name in names}
TIER_SHARES = (0.09, 0.81, 0.10)
FIRST_INSTANCE_ID = 100

MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 24
MAX_BOX_IOU = 0.45
UNCLEAR_OVERLAP = (0.03, 0.15)
"""Shares of the smaller object that no overlap has: around the 0.1 of Eq. (11), R would be a matter of a few pixels."""
MIN_STEP_BETWEEN_EQUALS = 4
"""Pixels between the lower edges of overlapping objects of one tier, so that one of them stands visibly lower."""
MIN_STUFF_PIXELS = 100


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """How scenes are drawn."""

    size: tuple[int, int] = (128, 128)  # height and width in pixels
    # how many objects; fewer where no more fit
    min_instances: int = 2
    max_instances: int = 10
    # range of object sizes in pixels, drawn log-uniformly
    smallest: float = 13.0
    largest: float = 62.0
    spread: float = 15.0  # standard deviation of the objects' distance from the middle of their crowd, in pixels
    misplaced: float = 0.05  # share of objects that lie anywhere in the painting order
    kinds: int | None = None  # how many categories the objects of a scene are drawn from; None: all
    same_class_overlap: float = 0.2  # share of the smaller one of two objects of a category that the other may hide


CROWDED = SceneSettings(min_instances=7, max_instances=16, smallest=16.0, spread=18.0, kinds=3, same_class_overlap=0.5)
"""Many objects of few categories, which semantic logits cannot tell apart where they overlap."""


@dataclasses.dataclass(eq=False)
class _Thing:
    name: str
    mask: np.ndarray
    box: np.ndarray


def draw_scene(rng: np.random.Generator, settings: SceneSettings, image_id: int) -> Record:
    """Draws and annotates one scene; the same state of the generator gives the same one on every machine."""
    while True:
        stuff = _stuff_regions(rng, settings.size)
        things = _paint_order(_place_things(rng, settings), rng, settings.misplaced)
        things = _drop_hidden(things)
        visible = _visible(stuff, things)
        areas = np.bincount(visible.ravel(), minlength=SHAPES.num_stuff + 1)[1 : SHAPES.num_stuff + 1]
        if len(things) >= settings.min_instances and not np.any((areas > 0) & (areas < MIN_STUFF_PIXELS)):
            break
    image = _paint(rng, stuff, things)
    return _annotate(image, visible, things, rng, image_id)


def _stuff_regions(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """`[h, w]` stuff class of every pixel: two or three areas with wavy borders."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    classes = rng.permutation(SHAPES.num_stuff)
    regions = np.full(size, classes[0])
    for stuff in classes[1 : rng.integers(2, 4)]:
        slope, offset, phase = rng.uniform(-0.4, 0.4), rng.uniform(0.2, 0.8), rng.uniform(0, 2 * np.pi)
        along, across = (x, y) if rng.uniform() < 0.6 else (y, x)
        border = offset * height + slope * (along - width / 2) + 0.03 * height * np.sin(along * (12.0 / width) + phase)
        regions[across > border] = stuff
    return regions


def _place_things(rng: np.random.Generator, settings: SceneSettings) -> list[_Thing]:
    """Objects crowded around one or two places, as many as fit under the placement rules."""
    height, width = settings.size
    wanted = rng.integers(settings.min_instances, settings.max_instances + 1)
    middles = rng.uniform(0.3, 0.7, (1 if wanted < 9 else 2, 2)) * (width, height)
    kinds = None if settings.kinds is None else [_choose_name(rng) for _ in range(settings.kinds)]
    things: list[_Thing] = []
    for attempt in range(30 * wanted):
        if len(things) == wanted:
            break
        name = _choose_name(rng) if kinds is None else str(rng.choice(kinds))
        size = np.exp(rng.uniform(np.log(settings.smallest), np.log(settings.largest)))
        center = middles[attempt % len(middles)] + rng.normal(0, settings.spread, 2)
        center = np.clip(center, 0.05 * width, 0.95 * width)
        mask = outline_mask(name, center, size, rng.uniform(-np.pi, np.pi), settings.size)
        if mask.sum() < MIN_VISIBLE_PIXELS:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        thing = _Thing(name, mask.astype(bool), box)
        if all(_may_stand_together(thing, other, settings.same_class_overlap) for other in things):
            things.append(thing)
    return things


def _choose_name(rng: np.random.Generator) -> str:
    return str(rng.choice(TIERS[rng.choice(len(TIERS), p=TIER_SHARES)]))


def _may_stand_together(a: _Thing, b: _Thing, same_class_overlap: float) -> bool:
    """Whether one could tell the two apart, whether they overlap, and by the rules which one is in front."""
    size = np.maximum(np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2]), 0)
    intersection = size.prod()
    if not intersection:
        return True
    union = (a.box[2:] - a.box[:2]).prod() + (b.box[2:] - b.box[:2]).prod() - intersection
    if intersection / union > MAX_BOX_IOU:
        return False
    overlap = (a.mask & b.mask).sum() / min(a.mask.sum(), b.mask.sum())
    if a.name == b.name and overlap > same_class_overlap:
        return False
    if UNCLEAR_OVERLAP[0] < overlap < UNCLEAR_OVERLAP[1]:
        return False
    equals = TIER_OF[a.name] == TIER_OF[b.name]
    return not (equals and overlap and abs(a.box[3] - b.box[3]) < MIN_STEP_BETWEEN_EQUALS)


def _paint_order(things: list[_Thing], rng: np.random.Generator, misplaced: float) -> list[_Thing]:
    """The objects from back to front."""
    ordered = sorted(things, key=lambda thing: (TIER_OF[thing.name], thing.box[3], thing.box[2]))
    for thing in things:
        if rng.uniform() < misplaced:
            ordered.remove(thing)
            ordered.insert(rng.integers(len(ordered) + 1), thing)
    return ordered


def _drop_hidden(things: list[_Thing]) -> list[_Thing]:
    """Removes objects, from the back, until every one can be seen well enough."""
    while things:
        covered = np.zeros_like(things[0].mask)
        kept: list[_Thing] = []
        for thing in reversed(things):
            seen = np.count_nonzero(thing.mask & ~covered)
            if seen >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * thing.mask.sum()):
                kept.insert(0, thing)
                covered |= thing.mask
        if len(kept) == len(things):
            break
        things = kept
    return things


def _visible(stuff: np.ndarray, things: list[_Thing]) -> np.ndarray:
    """`[h, w]` panoptic ids: stuff class + 1, or `FIRST_INSTANCE_ID` + the object's place in the painting order."""
    ids = stuff + 1
    for index, thing in enumerate(things):
        ids[thing.mask] = FIRST_INSTANCE_ID + index
    return ids


def _paint(rng: np.random.Generator, stuff: np.ndarray, things: list[_Thing]) -> np.ndarray:
    image = np.zeros((*stuff.shape, 3), np.float32)
    for index in np.unique(stuff):
        texture = stuff_texture(SHAPES.stuff[index].name, stuff.shape, rng)
        image[stuff == index] = texture[stuff == index]
    for thing in things:
        paint_object(image, thing.mask.astype(np.uint8), thing.name, rng)
    image = image * rng.uniform(0.85, 1.1) + rng.normal(0, 5, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _annotate(
    image: np.ndarray, visible: np.ndarray, things: list[_Thing], rng: np.random.Generator, image_id: int
) -> Record:
    """The record of a scene. Instances are stored in random order, so that their index says nothing."""
    stored = rng.permutation(len(things))
    rles = [coco_mask.encode(np.asfortranarray(things[place].mask, dtype=np.uint8)) for place in stored]
    thing_class = {category.name: index for index, category in enumerate(SHAPES.things)}
    classes = np.array([thing_class[things[place].name] for place in stored], np.int32)
    boxes = np.array([things[place].box for place in stored], np.float32).reshape(-1, 4)
    nobody = np.zeros(len(things), bool)
    stuff_ids = np.unique(visible[visible < FIRST_INSTANCE_ID])
    thing_ids = FIRST_INSTANCE_ID + stored
    segments = Segments(
        id=np.concatenate([stuff_ids, thing_ids]),
        category=np.concatenate([stuff_ids - 1, SHAPES.num_stuff + classes]),
        crowd=np.zeros(len(stuff_ids) + len(things), bool),
    )
    indices = index_ids(visible, segments.id)
    rows = len(stuff_ids) + np.arange(len(things))
    pairs = related(rles, nobody, map_rles(indices, len(segments.id)), rows)
    # What is painted earlier is covered by what is painted later.
    truly_covered = (stored[pairs.first] > stored[pairs.second]).astype(np.int8)
    return Record(
        image_bytes=encode_image(image), image_id=image_id, file_name=f'{image_id:08d}.png', size=visible.shape,
        panoptic_bytes=encode_indices(indices), has_instances=True, has_panoptic=True, has_relations=True,
        segments=segments, instances=InstanceAnnotations(thing_ids, classes, nobody, boxes, rles, thing_ids, thing_ids),
        pairs=dataclasses.replace(pairs, truly_covered=truly_covered),
    )  # fmt: skip
