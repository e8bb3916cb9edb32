"""What holds for any annotated image: properties of records and examples, on made-up ones."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sognet_jax.data.examples.pipeline import Augmentation, Stream, train_dataset
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.png import encode_image, encode_indices
from sognet_jax.data.records.relations import NO_ROW, decide_pairs, find_pairs, map_rles
from sognet_jax.data.records.schema import (
    DECODERS,
    InstanceAnnotations,
    Pairs,
    Record,
    Segments,
    decode_record,
    encode_record,
    features,
)

NUM_STUFF, NUM_THINGS = 3, 4
SETTINGS = ExampleSettings(image_size=(64, 96), short_side=50, long_side=90, max_instances=5, num_stuff=NUM_STUFF)


@st.composite
def records(draw):
    """Rectangles and ellipses painted over each other on stuff; some crowd, some without a segment, some unlabelled."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(24, 70)), draw(st.integers(24, 70))
    count = draw(st.integers(0, 8))
    has_panoptic, has_instances = draw(st.booleans()), draw(st.booleans()) if count else True
    masks = [random_mask(rng, height, width) for _ in range(count)]
    crowd, hidden = rng.uniform(size=count) < 0.2, rng.uniform(size=count) < 0.2
    indices = rng.integers(0, 3, (2, 2)).repeat(-(-height // 2), 0).repeat(-(-width // 2), 1)[:height, :width]
    for number, mask in enumerate(masks):
        if not hidden[number]:
            indices[mask] = 3 + number
    present = np.unique(indices[indices > 0])
    ids = np.append(0, 100 + rng.permutation(900)[: 2 + count])  # of index 0, 1, ...
    categories = np.concatenate([rng.integers(0, NUM_STUFF, 3), NUM_STUFF + rng.integers(0, NUM_THINGS, count)])
    dense = np.searchsorted(np.append(0, present), indices)
    segments = Segments(
        ids[present].astype(np.int64),
        categories[present].astype(np.int32),
        np.append([False] * 3, crowd)[present],
    )
    seen = ~hidden & np.isin(3 + np.arange(count), present) & ~crowd
    own = np.array([ids[3 + i] if seen[i] else 0 for i in range(count)], np.int64)
    rles = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    boxes = np.array([box_around(mask) for mask in masks], np.float32).reshape(-1, 4)
    rows = np.array([np.flatnonzero(segments.id == i)[0] if i else NO_ROW for i in own], np.int64)
    instances = InstanceAnnotations(
        1 + np.arange(count), (categories[3:] - NUM_STUFF).astype(np.int32), crowd, boxes, rles, own, own[::-1].copy()
    )
    record = Record(
        image_bytes=encode_image(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)),
        image_id=int(rng.integers(1 << 31)),
        file_name='ä b.png',
        size=(height, width),
        panoptic_bytes=encode_indices(dense if has_panoptic else np.zeros((1, 1))),
        has_instances=has_instances,
        has_panoptic=has_panoptic,
        has_relations=has_instances,
        segments=segments if has_panoptic else Segments(*(column[:0] for column in dataclasses.astuple(segments))),
        instances=instances,
        pairs=relate(rles, crowd, map_rles(dense, len(present)), rows, has_panoptic),
    )
    return record


def random_mask(rng, height, width):
    """A rectangle or an ellipse of at least 4 x 4 pixels."""
    h, w = rng.integers(4, height // 2 + 1), rng.integers(4, width // 2 + 1)
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    y, x = (np.arange(h) + 0.5) / h * 2 - 1, (np.arange(w) + 0.5) / w * 2 - 1
    shape = (y[:, None] ** 2 + x**2 <= 1) | (rng.uniform() < 0.5)
    mask = np.zeros((height, width), bool)
    mask[top : top + h, left : left + w] = shape
    return mask


def box_around(mask):
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def relate(rles, crowd, segment_rles, rows, has_panoptic):
    nothing = np.zeros(0, np.int64)
    ends, intersections = find_pairs(rles, crowd) if rles else (nothing.reshape(0, 2), nothing)
    covered, pixels = decide_pairs(rles, ends, segment_rles, rows)
    if not has_panoptic:
        covered, pixels = np.full(len(ends), -1), np.zeros((len(ends), 2), int)
    columns = ends[:, 0], ends[:, 1], covered, np.full(len(ends), -1), intersections, pixels[:, 0], pixels[:, 1]
    dtypes = np.int32, np.int32, np.int8, np.int8, np.int32, np.int32, np.int32
    return Pairs(*(column.astype(dtype) for column, dtype in zip(columns, dtypes, strict=True)))


def mirrored(record):
    """The record of the mirrored image."""
    width = record.size[1]
    masks = [coco_mask.decode(rle)[:, ::-1] for rle in record.instances.rles]
    x1, y1, x2, y2 = record.instances.box.T
    instances = dataclasses.replace(
        record.instances,
        box=np.stack([width - x2, y1, width - x1, y2], axis=-1),
        rles=[coco_mask.encode(np.asfortranarray(mask)) for mask in masks],
    )
    return dataclasses.replace(
        record,
        image_bytes=encode_image(record.image()[:, ::-1]),
        panoptic_bytes=encode_indices(record.segment_indices()[:, ::-1]),
        instances=instances,
    )


@settings(max_examples=60, deadline=None)
@given(records())
def test_flipping_twice_is_the_identity(record):
    once, twice = make_example(record, SETTINGS), make_example(mirrored(record), SETTINGS, flip=True)
    assert once.keys() == twice.keys()
    assert twice.pop('mirrored') and not once.pop('mirrored')
    masks = once.pop('masks'), twice.pop('masks')
    # Where a mask's edge runs exactly through the centre of a sample, fixed-point sampling may round either way.
    assert np.mean(masks[0] != masks[1]) < 0.01
    for name, value in once.items():
        np.testing.assert_allclose(twice[name], value, rtol=1e-6, atol=1e-4, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(records(), st.booleans())
def test_overlap_is_symmetric_and_order_is_part_of_it(record, flip):
    example = make_example(record, SETTINGS, flip=flip)
    overlap, order, decided = example['overlap'], example['order'], example['decided']
    np.testing.assert_array_equal(overlap, overlap.T)
    assert not overlap.diagonal().any()
    assert not np.any(order & ~overlap) and not np.any(order & order.T)
    np.testing.assert_array_equal(decided, decided.T)
    if record.has_panoptic and record.has_instances:
        # Decided are the pairs that do not overlap, and those with an order.
        np.testing.assert_array_equal(decided, ~overlap | order | order.T)
    else:
        assert not decided.any()
    nobody = ~example['valid'] | example['crowd']
    assert not overlap[nobody].any() and not order[nobody].any()


@settings(max_examples=40, deadline=None)
@given(records())
def test_storing_a_record_loses_nothing(record):
    stored = features()
    raw = stored.serialize_example(stored.encode_example(encode_record(record)))
    assert_same(decode_record(stored.deserialize_example_np(raw, decoders=DECODERS)), record)


def assert_same(record, other):
    for field in dataclasses.fields(Record):
        mine, theirs = getattr(record, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(mine):
            for column in dataclasses.fields(mine):
                np.testing.assert_array_equal(
                    getattr(mine, column.name), getattr(theirs, column.name), err_msg=column.name
                )
        else:
            assert mine == theirs, field.name


class Several(list):
    @property
    def sizes(self):
        return np.array([record.size for record in self])


@settings(max_examples=15, deadline=None)
@given(st.lists(records(), min_size=1, max_size=6), st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 4))
def test_a_stream_resumed_at_any_step_is_the_stream(several, seed, step, batch_size):
    augmentation = Augmentation(flip=True, short_sides=(30, 60))
    arguments = {'batch_size': batch_size, 'seed': seed, 'augmentation': augmentation}
    dataset = train_dataset(Several(several), SETTINGS, **arguments)
    resumed = Stream(train_dataset(Several(several), SETTINGS, **arguments), step)
    for offset in range(2):
        batch, other = dataset[step + offset], next(resumed)
        for name, value in batch.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)
    resumed.close()
