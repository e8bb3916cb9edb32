"""The classes of each data set: names, stuff or thing, data set ids and colours.

Inside the network only two numberings exist:

* thing class `0 .. T-1` (box, mask and relation heads; the box head adds background in front), and
* semantic train id: stuff `0 .. S-1`, then things `S .. S+T-1`; 255 is ignored.

Data set ids (COCO's 1..200 with gaps, Cityscapes' 7..33) appear only in `data/` and `evaluation/`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Category(NamedTuple):
    """One class: its id in the data set, its name and an RGB colour for pictures."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class CategorySet:
    """The stuff and thing classes of a data set, in train id order."""

    name: str
    stuff: tuple[Category, ...]
    things: tuple[Category, ...]

    @property
    def num_stuff(self) -> int:
        """S, the number of stuff classes."""
        return len(self.stuff)

    @property
    def num_things(self) -> int:
        """T, the number of thing classes."""
        return len(self.things)

    @property
    def num_classes(self) -> int:
        """S + T, the number of semantic train ids."""
        return len(self.stuff) + len(self.things)

    @property
    def all(self) -> tuple[Category, ...]:
        """Every category, indexed by semantic train id."""
        return self.stuff + self.things

    def is_thing(self, train_id: int) -> bool:
        """Whether a semantic train id is a thing."""
        return train_id >= self.num_stuff


COCO_STUFF = (
    Category(92, 'banner', (255, 255, 128)),
    Category(93, 'blanket', (147, 211, 203)),
    Category(95, 'bridge', (150, 100, 100)),
    Category(100, 'cardboard', (168, 171, 172)),
    Category(107, 'counter', (146, 112, 198)),
    Category(109, 'curtain', (210, 170, 100)),
    Category(112, 'door-stuff', (92, 136, 89)),
    Category(118, 'floor-wood', (218, 88, 184)),
    Category(119, 'flower', (241, 129, 0)),
    Category(122, 'fruit', (217, 17, 255)),
    Category(125, 'gravel', (124, 74, 181)),
    Category(128, 'house', (70, 70, 70)),
    Category(130, 'light', (255, 228, 255)),
    Category(133, 'mirror-stuff', (154, 208, 0)),
    Category(138, 'net', (193, 0, 92)),
    Category(141, 'pillow', (76, 91, 113)),
    Category(144, 'platform', (255, 180, 195)),
    Category(145, 'playingfield', (106, 154, 176)),
    Category(147, 'railroad', (230, 150, 140)),
    Category(148, 'river', (60, 143, 255)),
    Category(149, 'road', (128, 64, 128)),
    Category(151, 'roof', (92, 82, 55)),
    Category(154, 'sand', (254, 212, 124)),
    Category(155, 'sea', (73, 77, 174)),
    Category(156, 'shelf', (255, 160, 98)),
    Category(159, 'snow', (255, 255, 255)),
    Category(161, 'stairs', (104, 84, 109)),
    Category(166, 'tent', (169, 164, 131)),
    Category(168, 'towel', (225, 199, 255)),
    Category(171, 'wall-brick', (137, 54, 74)),
    Category(175, 'wall-stone', (135, 158, 223)),
    Category(176, 'wall-tile', (7, 246, 231)),
    Category(177, 'wall-wood', (107, 255, 200)),
    Category(178, 'water-other', (58, 41, 149)),
    Category(180, 'window-blind', (183, 121, 142)),
    Category(181, 'window-other', (255, 73, 97)),
    Category(184, 'tree-merged', (107, 142, 35)),
    Category(185, 'fence-merged', (190, 153, 153)),
    Category(186, 'ceiling-merged', (146, 139, 141)),
    Category(187, 'sky-other-merged', (70, 130, 180)),
    Category(188, 'cabinet-merged', (134, 199, 156)),
    Category(189, 'table-merged', (209, 226, 140)),
    Category(190, 'floor-other-merged', (96, 36, 108)),
    Category(191, 'pavement-merged', (96, 96, 96)),
    Category(192, 'mountain-merged', (64, 170, 64)),
    Category(193, 'grass-merged', (152, 251, 152)),
    Category(194, 'dirt-merged', (208, 229, 228)),
    Category(195, 'paper-merged', (206, 186, 171)),
    Category(196, 'food-other-merged', (152, 161, 64)),
    Category(197, 'building-other-merged', (116, 112, 0)),
    Category(198, 'rock-merged', (0, 114, 143)),
    Category(199, 'wall-other-merged', (102, 102, 156)),
    Category(200, 'rug-merged', (250, 141, 255)),
)

COCO_THINGS = (
    Category(1, 'person', (220, 20, 60)),
    Category(2, 'bicycle', (119, 11, 32)),
    Category(3, 'car', (0, 0, 142)),
    Category(4, 'motorcycle', (0, 0, 230)),
    Category(5, 'airplane', (106, 0, 228)),
    Category(6, 'bus', (0, 60, 100)),
    Category(7, 'train', (0, 80, 100)),
    Category(8, 'truck', (0, 0, 70)),
    Category(9, 'boat', (0, 0, 192)),
    Category(10, 'traffic light', (250, 170, 30)),
    Category(11, 'fire hydrant', (100, 170, 30)),
    Category(13, 'stop sign', (220, 220, 0)),
    Category(14, 'parking meter', (175, 116, 175)),
    Category(15, 'bench', (250, 0, 30)),
    Category(16, 'bird', (165, 42, 42)),
    Category(17, 'cat', (255, 77, 255)),
    Category(18, 'dog', (0, 226, 252)),
    Category(19, 'horse', (182, 182, 255)),
    Category(20, 'sheep', (0, 82, 0)),
    Category(21, 'cow', (120, 166, 157)),
    Category(22, 'elephant', (110, 76, 0)),
    Category(23, 'bear', (174, 57, 255)),
    Category(24, 'zebra', (199, 100, 0)),
    Category(25, 'giraffe', (72, 0, 118)),
    Category(27, 'backpack', (255, 179, 240)),
    Category(28, 'umbrella', (0, 125, 92)),
    Category(31, 'handbag', (209, 0, 151)),
    Category(32, 'tie', (188, 208, 182)),
    Category(33, 'suitcase', (0, 220, 176)),
    Category(34, 'frisbee', (255, 99, 164)),
    Category(35, 'skis', (92, 0, 73)),
    Category(36, 'snowboard', (133, 129, 255)),
    Category(37, 'sports ball', (78, 180, 255)),
    Category(38, 'kite', (0, 228, 0)),
    Category(39, 'baseball bat', (174, 255, 243)),
    Category(40, 'baseball glove', (45, 89, 255)),
    Category(41, 'skateboard', (134, 134, 103)),
    Category(42, 'surfboard', (145, 148, 174)),
    Category(43, 'tennis racket', (255, 208, 186)),
    Category(44, 'bottle', (197, 226, 255)),
    Category(46, 'wine glass', (171, 134, 1)),
    Category(47, 'cup', (109, 63, 54)),
    Category(48, 'fork', (207, 138, 255)),
    Category(49, 'knife', (151, 0, 95)),
    Category(50, 'spoon', (9, 80, 61)),
    Category(51, 'bowl', (84, 105, 51)),
    Category(52, 'banana', (74, 65, 105)),
    Category(53, 'apple', (166, 196, 102)),
    Category(54, 'sandwich', (208, 195, 210)),
    Category(55, 'orange', (255, 109, 65)),
    Category(56, 'broccoli', (0, 143, 149)),
    Category(57, 'carrot', (179, 0, 194)),
    Category(58, 'hot dog', (209, 99, 106)),
    Category(59, 'pizza', (5, 121, 0)),
    Category(60, 'donut', (227, 255, 205)),
    Category(61, 'cake', (147, 186, 208)),
    Category(62, 'chair', (153, 69, 1)),
    Category(63, 'couch', (3, 95, 161)),
    Category(64, 'potted plant', (163, 255, 0)),
    Category(65, 'bed', (119, 0, 170)),
    Category(67, 'dining table', (0, 182, 199)),
    Category(70, 'toilet', (0, 165, 120)),
    Category(72, 'tv', (183, 130, 88)),
    Category(73, 'laptop', (95, 32, 0)),
    Category(74, 'mouse', (130, 114, 135)),
    Category(75, 'remote', (110, 129, 133)),
    Category(76, 'keyboard', (166, 74, 118)),
    Category(77, 'cell phone', (219, 142, 185)),
    Category(78, 'microwave', (79, 210, 114)),
    Category(79, 'oven', (178, 90, 62)),
    Category(80, 'toaster', (65, 70, 15)),
    Category(81, 'sink', (127, 167, 115)),
    Category(82, 'refrigerator', (59, 105, 106)),
    Category(84, 'book', (142, 108, 45)),
    Category(85, 'clock', (196, 172, 0)),
    Category(86, 'vase', (95, 54, 80)),
    Category(87, 'scissors', (128, 76, 255)),
    Category(88, 'teddy bear', (201, 57, 1)),
    Category(89, 'hair drier', (246, 0, 122)),
    Category(90, 'toothbrush', (191, 162, 208)),
)

CITYSCAPES_STUFF = (
    Category(7, 'road', (128, 64, 128)),
    Category(8, 'sidewalk', (244, 35, 232)),
    Category(11, 'building', (70, 70, 70)),
    Category(12, 'wall', (102, 102, 156)),
    Category(13, 'fence', (190, 153, 153)),
    Category(17, 'pole', (153, 153, 153)),
    Category(19, 'traffic light', (250, 170, 30)),
    Category(20, 'traffic sign', (220, 220, 0)),
    Category(21, 'vegetation', (107, 142, 35)),
    Category(22, 'terrain', (152, 251, 152)),
    Category(23, 'sky', (70, 130, 180)),
)

CITYSCAPES_THINGS = (
    Category(24, 'person', (220, 20, 60)),
    Category(25, 'rider', (255, 0, 0)),
    Category(26, 'car', (0, 0, 142)),
    Category(27, 'truck', (0, 0, 70)),
    Category(28, 'bus', (0, 60, 100)),
    Category(31, 'train', (0, 80, 100)),
    Category(32, 'motorcycle', (0, 0, 230)),
    Category(33, 'bicycle', (119, 11, 32)),
)

SHAPES_STUFF = (
    Category(1, 'cloth', (171, 164, 203)),
    Category(2, 'grass', (120, 178, 105)),
    Category(3, 'brick', (190, 130, 100)),
    Category(4, 'sand', (222, 205, 150)),
)

# Three tiers decide who lies on whom: a tray lies under everything, a star on everything (data/sources/shapes).
SHAPES_THINGS = (
    Category(11, 'tray', (140, 86, 75)),
    Category(12, 'rug', (188, 80, 144)),
    Category(13, 'ball', (214, 39, 40)),
    Category(14, 'box', (31, 119, 180)),
    Category(15, 'cone', (255, 127, 14)),
    Category(16, 'cross', (44, 160, 44)),
    Category(17, 'egg', (148, 103, 189)),
    Category(18, 'star', (255, 215, 0)),
    Category(19, 'ring', (23, 190, 207)),
    Category(20, 'leaf', (110, 190, 60)),
)

COCO = CategorySet('coco', COCO_STUFF, COCO_THINGS)
CITYSCAPES = CategorySet('cityscapes', CITYSCAPES_STUFF, CITYSCAPES_THINGS)
SHAPES = CategorySet('shapes', SHAPES_STUFF, SHAPES_THINGS)

CATEGORY_SETS = {categories.name: categories for categories in (COCO, CITYSCAPES, SHAPES)}
