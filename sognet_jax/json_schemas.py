"""What the JSON files say that this program reads: the types of their fields, and the range of each number.

`Raw` fields are read one by one, so that what is wrong with one of them does not hide the rest.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sognet_jax.id_maps import NUM_IDS

MAX_SIDE = 32_767
"""Pixels that OpenCV takes in each direction."""

MAX_AREA = 2.0**53
"""Whole numbers below are floats without rounding."""

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Name = Annotated[str, Meta(min_length=1)]
FileName = Annotated[str, Meta(pattern=r'(?s)^(?!/)(?!(.*/)?\.\.(/|$))[^\x00]+$')]
"""In the folder where such files are."""

SegmentId = Annotated[int, Meta(ge=1, le=NUM_IDS - 1)]
Flag = Literal[0, 1] | bool
ImageId = Int64 | str
"""Image ids of evaluated files may be texts, as those of Cityscapes are."""

Byte = Annotated[int, Meta(ge=0, le=255)]
Area = Annotated[float, Meta(ge=0, lt=MAX_AREA)]
Coordinate = Annotated[float, Meta(ge=-MAX_SIDE, le=MAX_SIDE)]

Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class CategoryEntry(Struct):
    """An entry of `categories`."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({'supercategory', 'keypoints', 'skeleton'})

    id: Int32
    name: Name | UnsetType = UNSET
    isthing: Flag | UnsetType = UNSET
    color: tuple[Byte, Byte, Byte] | UnsetType = UNSET


class CategoryFile(Struct):
    """A file with categories among other things."""

    categories: list[Raw]


class ImageListFile(Struct):
    """`image_info_*.json`: images without annotations."""

    images: list[Raw]
    categories: list[Raw] = []
    annotations: list[Raw] = []


class AnnotationFile(Struct):
    """`instances_*.json` or `panoptic_*.json`."""

    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw] = []


class ImageEntry(Struct):
    """An entry of `images`."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({'license', 'coco_url', 'flickr_url', 'date_captured'})

    id: Int32
    file_name: FileName
    height: Side
    width: Side
    occlusion_order_file_name: FileName = ''
    """Of SynTable: the matrix of its instances."""


class InstanceEntry(Struct):
    """An entry of `annotations` in an instances file."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({'area', 'keypoints', 'num_keypoints'})

    id: Int64
    image_id: Int32
    category_id: Int32
    segmentation: Raw
    bbox: Box | None = None
    iscrowd: Flag = 0
    visible_mask: Raw = Raw(b'null')
    """Of SynTable, where `segmentation` is the whole; KINS calls it `inmodal_seg`."""
    inmodal_seg: Raw = Raw(b'null')


class RunLengths(Struct):
    """A mask of COCO: runs of 0 and 1 along the columns."""

    size: tuple[Side, Side]
    counts: str | list[Annotated[int, Meta(ge=0)]]


Polygons = Annotated[list[Annotated[list[float], Meta(min_length=6)]], Meta(min_length=1)]
Segmentation: Any = Polygons | RunLengths


class PanopticEntry(Struct):
    """An entry of `annotations` in a panoptic file."""

    image_id: Int32
    file_name: FileName
    segments_info: list[Raw]


class SegmentEntry(Struct):
    """An entry of `segments_info`."""

    UNUSED: ClassVar[frozenset[str]] = frozenset({'bbox'})

    id: SegmentId
    category_id: Int32
    iscrowd: Flag = 0
    area: Area | UnsetType = UNSET


class EvaluatedFile(Struct):
    """Predictions in COCO's panoptic format."""

    annotations: Annotated[list[Raw], Meta(min_length=1)]


class TrueFile(EvaluatedFile):
    """Ground truth in it."""

    categories: Annotated[list[Raw], Meta(min_length=1)]


class ResultFile(Struct):
    """Saved panoptic results: as `EvaluatedFile`, but there may be none."""

    annotations: list[Raw]


class MaskResult(Struct):
    """A detection by its mask, in COCO's result format."""

    image_id: ImageId
    category_id: Int64
    score: float
    segmentation: RunLengths


class BoxResult(Struct):
    """The same by its box."""

    image_id: ImageId
    category_id: Int64
    score: float
    bbox: Box


class OverlapFile(Struct):
    """Saved relations."""

    images: list[Raw]


Relation = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)], float]
"""i, j, O_ij."""


class Overlaps(Struct):
    """O of an image: of the segments that are instances, and of the annotated instances."""

    image_id: ImageId
    instances: list[SegmentId]
    O: list[Relation] | None = None  # noqa: E741
    annotated_O: list[Relation] = []
    num_annotated: int = 0


class TrueCategory(Struct):
    """A category of the ground truth."""

    id: Int64
    isthing: Flag
    name: str = ''


class EvaluatedImage(Struct):
    """The annotation of an image in either."""

    image_id: ImageId
    file_name: FileName
    segments_info: list[Raw]


class PredictedSegment(Struct):
    """A segment of a prediction."""

    id: SegmentId
    category_id: Int64


class TrueSegment(PredictedSegment):
    """A segment of the ground truth."""

    iscrowd: Flag
    area: Area


class RuleFile(Struct):
    """A label prior."""

    rules: list[Raw]


class Rule(Struct):
    """Things of one class lie on those of another."""

    on: Name
    under: Name


class PolygonFile(Struct):
    """`*_polygons.json` of Cityscapes."""

    imgHeight: Side
    imgWidth: Side
    objects: list[Raw]


class PolygonEntry(Struct):
    """An entry of `objects`; the polygon matters where the label is an instance's."""

    label: str
    deleted: Flag = 0
    polygon: Raw = Raw(b'null')


Outline = Annotated[list[tuple[Coordinate, Coordinate]], Meta(min_length=3)]


class CocoaEntry(Struct):
    """The annotation of an image in COCOA."""

    image_id: Int32
    regions: list[Raw]
    depth_constraint: str = ''


class CocoaRegion(Struct):
    """A region: its whole outline and, where it is hidden in part, the mask of what is seen."""

    segmentation: Annotated[list[float], Meta(min_length=6)]
    visible_mask: Raw = Raw()
    name: str = ''


class OcclusionOrder(Struct):
    """`1<0`: the first lies over the second; `1<0 & 0<1`: each covers the other in part."""

    order: str


class DepthOrder(Struct):
    """`1<0`: the first is nearer; `1=0`: neither is."""

    order: str
    count: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    overlap: Flag


class InstaOrderEntry(Struct):
    """The annotation of an image in InstaOrder."""

    image_id: Int32
    instance_ids: list[Int64]
    occlusion: list[OcclusionOrder]
    depth: list[DepthOrder] = []


class OrderOverlap(Struct):
    """One instance lies on another, so surely."""

    covering: Int64
    covered: Int64
    strength: Annotated[float, Meta(ge=0, le=1)]


class OrderedImageEntry(Struct):
    """An image of `order.json`, which is an `OverlapFile`."""

    file_name: str
    overlaps: list[OrderOverlap]
