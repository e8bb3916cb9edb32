"""The whole network with the published weights by rule against the authors' code.

Every stage is checked twice: from the stored inputs of that stage, and at the end of the chain from the image.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.configs import coco_r50
from sognet_jax.inference.detections import box_detections, panoptic_detections
from sognet_jax.inference.prediction import Inference, predict
from sognet_jax.kernels.mask_statistics import mask_statistics
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.panoptic_head import panoptic_logits, semantic_instance_logits
from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.ops.masks import paste_masks
from sognet_jax.ops.overlap import combine, resolve_overlaps
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.ops.resize import resize_bilinear
from tests.support import golden_files, published
from tests.support.golden_files import SHIFT, near, nhwc
from tests.support.sequential import resolve_overlaps_sequential

NUM_STUFF = 53
SAME_PIXELS = 0.9995

pytestmark = [published.needs_weights, pytest.mark.compiles]


def image_file(path):
    """The file with the image that a stored stage belongs to."""
    letter = path.stem.split('_')[2]
    return path.with_name(f'model_infer_{letter}_features.npz')


@functools.cache
def network_input(path):
    """Padded RGB image `[1, H, W, 3]` and its size `[1, 2]`."""
    golden = golden_files.load(path)
    image = golden['image_bgr'][..., ::-1]
    padded = np.zeros((1, *golden['padded_hw'], 3), np.uint8)
    padded[0, : image.shape[0], : image.shape[1]] = image
    return jnp.array(padded), jnp.array([image.shape[:2]])


def run(function, *inputs):
    """`function(bound network, *inputs)`, compiled once for each function and shape."""
    return _compiled(function)(published.variables(), *inputs)


@functools.cache
def _compiled(function):
    return jax.jit(nn.apply(function, published.network()))


@functools.cache
def first_pass(path):
    """Stages, pyramid, anchor scores and offsets, semantic logits: all that needs no box."""

    def infer(network, image, size):
        stages = network.extract_stages(image, size)
        features = network.extract_features(image, size)
        return stages, features, network.score_anchors(features), network.segment_semantics(features, size)

    return run(infer, *network_input(path))


def classify(network, boxes, size, *features):
    return network.classify_boxes(features, boxes, size)


def segment(network, boxes, classes, size, *features):
    return network.segment_boxes(features, boxes, classes, size)


@golden_files.parametrize('model_infer_*_features')
def test_features(golden_path):
    golden = golden_files.load(golden_path)
    stages, features, _, _ = first_pass(golden_path)
    for number, (stage, expected) in enumerate(zip(stages, golden['backbone_stats'], strict=True), start=2):
        near(stage[..., ::32], nhwc(golden[f'res{number}_stride32']))
        np.testing.assert_allclose(published.statistics(stage), expected, rtol=1e-4)
    for number, (level, expected) in enumerate(zip(features, golden['fpn_stats'], strict=True), start=2):
        near(level[..., ::16], nhwc(golden[f'p{number}_stride16']))
        np.testing.assert_allclose(published.statistics(level), expected, rtol=1e-4)


@golden_files.parametrize('model_infer_*_rpn_rcnn')
def test_proposals_and_box_head(golden_path):
    golden = golden_files.load(golden_path)
    _, features, (scores, deltas), _ = first_pass(image_file(golden_path))
    stored_scores = [nhwc(golden[f'rpn_score_{stride}']).reshape(-1) for stride in STRIDES]
    stored_deltas = [nhwc(golden[f'rpn_pred_{stride}']).reshape(-1, 4) for stride in STRIDES]
    for level in range(len(STRIDES)):
        near(scores[level][0], stored_scores[level])
        near(deltas[level][0], stored_deltas[level])

    grids = [anchor_grid(*x.shape[1:3], stride).reshape(-1, 4) for x, stride in zip(features, STRIDES, strict=True)]
    propose = jax.jit(functools.partial(propose_boxes, anchors=grids, pre_nms=1000, post_nms=1000))
    size = network_input(image_file(golden_path))[1][0]
    boxes, logits, valid = propose(stored_scores, stored_deltas, image_size=size)
    stored_boxes = golden['rois'][:, 1:] + SHIFT
    assert valid.sum() == len(stored_boxes)
    # The published code sorts probabilities, which tie where logits do not: compared as sets.
    np.testing.assert_allclose(np.sort(nn.sigmoid(logits)), np.sort(golden['roi_scores'].ravel()), atol=1e-6)
    distance = np.abs(np.asarray(boxes)[:, None] - stored_boxes[None]).max(axis=-1)
    assert np.mean(distance.min(axis=0) < 1e-2) >= 0.995 and np.mean(distance.min(axis=1) < 1e-2) >= 0.995

    class_logits, offsets = run(classify, jnp.array(stored_boxes[None]), size[None], *features)
    near(class_logits[0], golden['cls_score'])
    rows = len(golden['bbox_pred_head'])
    near(offsets[0, :rows].reshape(rows, -1), golden['bbox_pred_head'][:, 4:])


@golden_files.parametrize('model_infer_*_semantic_det')
def test_semantic_maps_and_detections(golden_path):
    golden = golden_files.load(golden_path)
    image, size = network_input(image_file(golden_path))
    _, features, _, semantic = first_pass(image_file(golden_path))
    near(semantic[..., ::7], nhwc(golden['fcn_score_stride7']))
    np.testing.assert_allclose(published.statistics(semantic), golden['fcn_score_stats'], rtol=1e-4)
    full = jax.jit(resize_bilinear, static_argnums=1)(semantic, image.shape[1:3])
    near(full[:, ::2, ::2][..., jnp.array([0, 10, 52, 53, 66, 90, 132])], nhwc(golden['fcn_output_sub']))
    assert np.mean(np.argmax(full, axis=-1) == golden['fcn_argmax_full']) >= SAME_PIXELS

    stored = golden_files.load(golden_path.with_name(golden_path.name.replace('semantic_det', 'rpn_rcnn')))
    boxes = jnp.array(stored['rois'][None, :, 1:] + SHIFT)
    _, offsets = run(classify, boxes, size, *features)
    found = jax.jit(box_detections)(
        boxes[0], nn.softmax(stored['cls_score']), offsets[0], jnp.ones(boxes.shape[1], bool), size[0]
    )
    same_instances(found, golden['det_boxes'], golden['det_cls'], golden['det_scores'])
    count = len(golden['det_mask_prob'])
    masks = run(
        segment, jnp.array(golden['det_boxes'][None, :count, 1:] + SHIFT),
        jnp.array(golden['det_cls'][None, :count] - 1), size, *features,
    )  # fmt: skip
    np.testing.assert_allclose(nn.sigmoid(masks[0]), golden['det_mask_prob'], atol=1e-3)


def same_instances(found, boxes, classes, scores):
    """The same set of instances: boxes within a hundredth of a pixel, scores within 1e-4, in any order."""
    ours = sorted_rows(*(np.asarray(array)[np.asarray(found[3])] for array in found[:3]))
    theirs = sorted_rows(boxes[:, 1:] + SHIFT, classes - 1, scores)
    for mine, stored, tolerance in zip(ours, theirs, (1e-2, 0, 1e-4), strict=True):
        np.testing.assert_allclose(mine, stored, atol=tolerance)


def sorted_rows(boxes, classes, scores):
    order = np.lexsort((boxes[:, 0].round(1), boxes[:, 1].round(1), classes))
    return boxes[order], classes[order], scores[order]


class Stored:
    """What is stored of one threshold, with instances in score order."""

    def __init__(self, path):
        self.golden = golden = golden_files.load(path)
        self.image, self.size = network_input(image_file(path))
        self.boxes = jnp.array(golden['pan_boxes'][:, 1:] + SHIFT)
        self.classes = jnp.array(golden['pan_cls'] - 1)
        self.mask_logits = jnp.array(golden['pan_mask_logits'])
        self.order = golden['keep_inds'][golden['new_index']]
        count = len(self.boxes)
        self.kept = np.isin(np.arange(count), self.order)
        related = self.order[: int(golden['non_zero_num'])]
        self.takes_part = np.isin(np.arange(count), related)
        self.relations = np.zeros((count, count), np.float32)
        self.relations[np.ix_(related, related)] = golden['O_pairwise']

    def channels(self, ids):
        """Our id map with the published channel numbers."""
        channel = np.arange(NUM_STUFF + len(self.boxes))
        channel[NUM_STUFF + self.order] = NUM_STUFF + np.arange(len(self.order))
        return channel[np.asarray(ids)]


@golden_files.parametrize('model_infer_*_panoptic')
def test_instances_of_the_panoptic_result(golden_path):
    stored = Stored(golden_path)
    golden, count = stored.golden, len(stored.boxes)
    _, features, _, _ = first_pass(image_file(golden_path))
    letter = golden_path.stem.split('_')[2]
    boxed = golden_files.load_or_skip(golden_path.with_name(f'model_infer_{letter}_rpn_rcnn.npz'))
    rois = jnp.array(boxed['rois'][None, :, 1:] + SHIFT)
    _, offsets = run(classify, rois, stored.size, *features)
    threshold = float(golden['score_thresh'])
    found = jax.jit(functools.partial(panoptic_detections, score_threshold=threshold))(
        rois[0], nn.softmax(boxed['cls_score']), offsets[0], jnp.ones(rois.shape[1], bool), stored.size[0]
    )
    same_instances(found, golden['pan_boxes'], golden['pan_cls'], golden['pan_scores'])
    masks = run(segment, stored.boxes[None], stored.classes[None], stored.size, *features)
    np.testing.assert_allclose(masks[0], golden['pan_mask_logits'], atol=5e-3)

    keep, ratio = jax.jit(functools.partial(mask_statistics, size=stored.image.shape[1:3], num_classes=80))(
        stored.mask_logits, stored.boxes, stored.classes, jnp.ones(count, bool), stored.size[0]
    )
    np.testing.assert_array_equal(np.flatnonzero(keep), np.sort(golden['keep_inds']))
    kept = np.flatnonzero(keep)
    partners = np.sum(np.asarray(ratio)[np.ix_(kept, kept)] > 0.1, axis=1)
    # Sorted by their number of partners; the order of ties is unspecified in the published code (an unstable sort).
    np.testing.assert_array_equal(partners[golden['new_index']], np.sort(partners)[::-1])
    assert np.sum(partners > 0) == golden['non_zero_num']
    np.testing.assert_array_equal(golden['panoptic_cls_inds'] - 1, np.asarray(stored.classes)[stored.order])
    np.testing.assert_allclose(golden['panoptic_cls_probs'], golden['pan_scores'][stored.order], atol=1e-6)


def relate(network, classes, boxes, masks, takes_part):
    return network.relate(classes, boxes, masks, takes_part)


@golden_files.parametrize('model_infer_*_panoptic')
def test_relations_and_resolved_logits(golden_path):
    stored = Stored(golden_path)
    golden, order = stored.golden, stored.order
    relations = run(relate, stored.classes, stored.boxes, nn.sigmoid(stored.mask_logits), jnp.array(stored.takes_part))
    related = order[: int(golden['non_zero_num'])]
    for name in ('O_pairwise', 'O_joint'):
        np.testing.assert_allclose(np.asarray(relations)[np.ix_(related, related)], golden[name], atol=1e-5)

    _, _, _, semantic = first_pass(image_file(golden_path))
    result = plain_fusion(
        stored.mask_logits[order], stored.boxes[order], stored.classes[order], stored.relations[np.ix_(order, order)],
        semantic, size=stored.image.shape[1:3],
    )  # fmt: skip
    quarter, half = np.s_[:, ::4, ::4], np.s_[::2, ::2]
    np.testing.assert_allclose(result['pasted'][quarter], golden['mask_logits_before_sub'][0], atol=4e-3)
    np.testing.assert_allclose(result['sequential'][quarter], golden['mask_logits_sequential_sub'][0], atol=4e-3)
    np.testing.assert_allclose(result['joint'][quarter], golden['mask_logits_joint_sub'][0], atol=4e-3)
    np.testing.assert_allclose(result['instances'][quarter], golden['panoptic_inst_logits_ph2_sub'][0], atol=1e-2)
    np.testing.assert_allclose(result['margin'][half], golden['panoptic_margin_sub'][0], atol=1e-2)


@functools.partial(jax.jit, static_argnames='size')
def plain_fusion(mask_logits, boxes, classes, relations, semantic, *, size):
    """Overlap resolving and panoptic head 2 at full resolution, everything held at once."""
    pasted, _ = paste_masks(mask_logits, boxes, size)
    sequential = resolve_overlaps_sequential(pasted, relations)
    full = resize_bilinear(semantic, size)
    own = semantic_instance_logits(full, boxes[None], classes[None], num_stuff=NUM_STUFF, stride=1)
    instances = combine(own, sequential[None], head=2)
    logits = panoptic_logits(full[..., :NUM_STUFF], instances, jnp.ones((1, len(boxes)), bool))
    best = jax.lax.top_k(logits[0], 2)[0]
    return {
        'pasted': pasted,
        'sequential': sequential,
        'joint': resolve_overlaps(pasted, relations),
        'instances': instances[0],
        'margin': best[..., 0] - best[..., 1],
    }


@golden_files.parametrize('model_infer_*_panoptic')
@pytest.mark.parametrize(
    ('resolve', 'head', 'name'),
    [
        ('sequential', 2, 'panoptic_output'),
        ('joint', 2, 'panoptic_output_joint_ph2'),
        ('sequential', 1, 'panoptic_output_seq_ph1'),
    ],
)
def test_panoptic_map_of_the_stored_instances(golden_path, resolve, head, name):
    stored = Stored(golden_path)
    _, _, _, semantic = first_pass(image_file(golden_path))
    partners = np.zeros(len(stored.boxes), np.int32)
    partners[stored.order] = np.arange(len(stored.order), 0, -1)  # any numbers that give the published order
    options = {'size': stored.image.shape[1:3], 'num_stuff': NUM_STUFF, 'resolve': resolve, 'head': head}
    ids = jax.jit(functools.partial(panoptic_fusion, **options))(
        stored.mask_logits, stored.boxes, stored.classes, jnp.array(stored.kept), jnp.array(stored.relations),
        semantic[0], partners=jnp.array(partners),
    )  # fmt: skip
    assert np.mean(stored.channels(ids) == stored.golden[name][0]) >= SAME_PIXELS


@functools.cache
def predict_above(score_threshold):
    """The published inference; a threshold decides on sizes, so that each is a program of its own."""
    options = dict(coco_r50.get_config('published').inference)
    settings = Inference(**options | {'score_threshold': score_threshold})

    def infer(network, image, size):
        return predict(network, image, size, settings)

    return infer


@golden_files.parametrize('model_infer_*_panoptic', quick='thr60')
def test_image_to_panoptic_map(golden_path):
    """End to end at a stored threshold: the same instances, and all but a handful of the pixels."""
    stored = Stored(golden_path)
    golden = stored.golden
    prediction = jax.device_get(run(predict_above(float(golden['score_thresh'])), stored.image, stored.size))
    instances = jax.tree.map(lambda value: value[0], prediction.instances)
    slots = np.flatnonzero(instances.valid)
    np.testing.assert_array_equal(slots, np.sort(golden['keep_inds']))
    np.testing.assert_array_equal(instances.classes[slots], golden['pan_cls'][slots] - 1)
    np.testing.assert_allclose(instances.boxes[slots], golden['pan_boxes'][slots, 1:] + SHIFT, atol=1e-2)
    np.testing.assert_allclose(instances.scores[slots], golden['pan_scores'][slots], atol=1e-4)
    np.testing.assert_allclose(
        prediction.relations[0][np.ix_(stored.order, stored.order)],
        stored.relations[np.ix_(stored.order, stored.order)],
        atol=1e-3,
    )
    same = (
        stored.channels(np.minimum(prediction.panoptic[0], NUM_STUFF + len(stored.boxes) - 1))
        == golden['panoptic_output'][0]
    )
    assert np.mean(same) >= SAME_PIXELS


@pytest.mark.slow  # every run has the padded losses of the published training, and the layers' own tests of padding
@golden_files.parametrize('model_infer_*_panoptic', quick='thr60')
def test_padding_of_the_batch_does_not_show(golden_path):
    """The published code pads an image to a multiple of 32 alone; in a larger batch the result is the same."""
    stored = Stored(golden_path)
    larger = np.full((1, stored.image.shape[1] + 96, stored.image.shape[2] + 64, 3), 99, np.uint8)
    larger[:, : stored.image.shape[1], : stored.image.shape[2]] = stored.image
    infer = predict_above(float(stored.golden['score_thresh']))
    alone, padded = (jax.device_get(run(infer, jnp.array(image), stored.size)) for image in (stored.image, larger))
    height, width = stored.size[0].tolist()
    np.testing.assert_array_equal(alone.instances.valid, padded.instances.valid)
    assert np.mean(alone.panoptic[:, :height, :width] == padded.panoptic[:, :height, :width]) >= SAME_PIXELS
