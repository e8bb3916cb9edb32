"""One training example through the network with the published weights by rule: every stage, loss and gradient norm of
the authors' code. What was drawn at random there is fed as it is stored."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from pycocotools import mask as coco_mask

from sognet_jax import losses
from sognet_jax.configs import coco_r50
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.convert.names import published_entry
from sognet_jax.data.records.relations import find_pairs
from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.panoptic_head import panoptic_logits, semantic_instance_logits
from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.ops.masks import paste_masks
from sognet_jax.ops.overlap import combine, resolve_overlaps
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.targets.anchors import label_anchors
from sognet_jax.targets.pixels import semantic_box_targets
from sognet_jax.targets.proposals import SampledProposals, sample_proposals
from sognet_jax.training.objective import Assignment, build_objective, losses_of_assignment, weighted_sum
from tests.support import golden_files, published
from tests.support.golden_files import SHIFT, close, near, nhwc
from tests.support.kinks import StoredSides, check_distances

NUM_STUFF = 53
OURS = {
    'rpn_score': 'rpn_cls_loss', 'rpn_box': 'rpn_bbox_loss', 'box_class': 'cls_loss', 'box_delta': 'bbox_loss',
    'mask': 'mask_loss', 'semantic': 'fcn_loss', 'semantic_boxes': 'fcn_roi_loss', 'panoptic': 'panoptic_loss',
    'relation': 'relation_loss',
}  # fmt: skip
"""Our names of the published losses."""

OBJECTIVE = build_objective(coco_r50.get_config('published').objective)

pytestmark = [published.needs_weights, pytest.mark.compiles]


class Stored:
    """Everything that is stored of one training example, by the path of its `_inputs` file."""

    def __init__(self, path):
        def beside(kind):
            return path.with_name(path.name.replace('_inputs', f'_{kind}'))

        self.inputs, self.sampled, self.panoptic = (
            golden_files.load(p) for p in (path, beside('sampled'), beside('panoptic'))
        )
        with open(beside('losses_grads').with_suffix('.json')) as file:
            self.results = json.load(file)
        self.boxes = self.panoptic['gt_rois'][:, 1:] + SHIFT
        self.classes = self.inputs['gt_classes'] - 1
        order = self.panoptic['new_index']
        self.order = order if len(order) else np.arange(len(self.classes))
        self.num_related = int(self.panoptic['non_zero_num'])
        self.takes_part = np.isin(np.arange(len(self.classes)), self.order[: self.num_related])
        self.size = np.round(self.inputs['im_info'][:, :2]).astype(np.int32)

    def image(self):
        """The stored input, BGR without its mean, as the float RGB image that the network takes."""
        mean = np.array(coco_r50.get_config('published').model.pixel_mean, np.float32)
        return nhwc(self.inputs['data'])[..., ::-1] + mean

    def anchor_targets(self):
        """Labels `[A]` and offsets `[A, 4]` of all levels."""
        labels = [np.moveaxis(self.inputs[f'rpn_labels_{stride}'], 1, -1).reshape(-1) for stride in STRIDES]
        targets = [np.moveaxis(self.inputs[f'rpn_targets_{stride}'], 1, -1).reshape(-1, 4) for stride in STRIDES]
        return np.concatenate(labels), np.concatenate(targets)

    def panoptic_target(self):
        """`[h, w]` with instances in the order of the annotation, -1 ignored."""
        labels = self.panoptic['panoptic_gt'].reshape(self.inputs['seg_gt_4x'].shape[1:]).astype(np.int32)
        things = (labels >= NUM_STUFF) & (labels < 255)
        slots = np.where(things, self.order[np.where(things, labels - NUM_STUFF, 0)] + NUM_STUFF, labels)
        return np.where(labels == 255, -1, slots)

    def batch(self):
        """The example in the form of the data contract, as far as the losses read it."""
        count = len(self.boxes)
        overlap = np.zeros((count, count), bool)
        related = self.order[: self.num_related]
        overlap[np.ix_(related, related)] = self.panoptic['relation_gt'] > 0
        example = {
            'image_size': self.size[0],
            'boxes': self.boxes,
            'classes': self.classes,
            'valid': np.ones(count, bool),
            'crowd': np.zeros(count, bool),
            'masks': np.zeros((count, 112, 112), np.uint8),
            'semantic': self.inputs['seg_gt'][0],
            'panoptic': self.panoptic_target(),
            'overlap': overlap,
            'order': np.zeros((count, count), bool),
            'has_instances': np.array(True),
            'has_panoptic': np.array(True),
        }
        return {name: jnp.array(value)[None] for name, value in example.items()} | {'image': self.image()}

    def assignment(self):
        """What the stored run was trained towards; foreground comes first there as here."""
        num_foreground = int(OBJECTIVE.box_batch_size * OBJECTIVE.foreground_fraction)
        labels, targets = self.anchor_targets()
        rois = self.sampled['rois'][:, 1:] + SHIFT
        count = len(rois)
        masks = np.zeros((num_foreground, 28, 28), np.float32)
        masks[: len(self.sampled['mask_target'])] = self.sampled['mask_target']
        sampled = SampledProposals(
            rois, self.sampled['labels'], np.ones(count, bool), np.zeros(count, np.int32),
            self.sampled['bbox_target_own_class'],
        )  # fmt: skip
        priority = np.zeros((num_foreground, num_foreground))
        return jax.tree.map(lambda value: jnp.array(value)[None], Assignment(labels, targets, sampled, masks, priority))


@functools.cache
def stored_example(path):
    return Stored(path)


@functools.cache
def forward(path):
    """What the network makes of the stored image and boxes."""
    stored = stored_example(path)

    def infer(network, image, size, boxes, classes, rois):
        features = network.extract_features(image, size)
        semantic = network.segment_semantics(features, size)
        return {
            'features': features,
            'anchors': network.score_anchors(features),
            'boxes': network.classify_boxes(features, rois, size),
            'masks': network.segment_boxes(features, boxes, classes, size),
            'semantic': semantic,
            'semantic_boxes': network.segment_semantics_in_boxes(semantic, boxes, size),
            'relations': network.relate(classes, boxes, jnp.zeros((*classes.shape, 28, 28)), stored.takes_part[None]),
        }

    rois = stored.sampled['rois'][None, :, 1:] + SHIFT
    arguments = (stored.image(), stored.size, stored.boxes[None], stored.classes[None], rois)
    return jax.jit(nn.apply(infer, published.network()))(published.variables(), *map(jnp.array, arguments))


def losses_of(network, batch, assignment):
    features = network.extract_features(batch['image'], batch['image_size'])
    anchors = network.score_anchors(features)
    return losses_of_assignment(network, features, anchors, batch, assignment, OBJECTIVE)[0]


@functools.cache
def differentiated(path):
    """Total and single losses of the stored example, and the gradients of the total, on the stored sides of kinks."""

    @jax.jit
    def differentiate(params, batch_stats, batch, assignment):
        def total(params):
            variables, sides = {'params': params, 'batch_stats': batch_stats}, StoredSides(path.stem)
            with nn.intercept_methods(sides):
                values = nn.apply(losses_of, published.network())(variables, batch, assignment)
            return weighted_sum(values, OBJECTIVE.weights), (values, sides.distances)

        return jax.value_and_grad(total, has_aux=True)(params)

    stored, variables = stored_example(path), published.variables()
    (total, (values, distances)), gradients = differentiate(
        variables['params'], variables['batch_stats'], stored.batch(), stored.assignment()
    )
    check_distances(distances, path.stem)
    return (total, values), gradients


@golden_files.parametrize('model_train_*_inputs')
def test_targets_from_the_annotation(golden_path):
    stored = stored_example(golden_path)
    height, width = stored.inputs['seg_gt'].shape[1:]
    anchors = [anchor_grid(-(-height // s), -(-width // s), s).reshape(-1, 4) for s in STRIDES]
    anchors = jnp.concatenate(anchors)
    labels, targets = jax.jit(functools.partial(label_anchors, batch_size=256, priority=jnp.arange(len(anchors))))(
        anchors, stored.boxes, np.ones(len(stored.boxes), bool), stored.size[0]
    )
    expected_labels, expected_targets = stored.anchor_targets()
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(targets, np.where(expected_labels[:, None] > 0, expected_targets, 0), atol=1e-5)

    crops = jax.jit(semantic_box_targets, static_argnums=2)(stored.inputs['seg_gt'][0], jnp.array(stored.boxes), 28)
    np.testing.assert_array_equal(crops, stored.inputs['seg_roi_gt'])

    rles = coco_mask.encode(np.asfortranarray(np.moveaxis(stored.inputs['mask_gt'] == 1, 0, -1).astype(np.uint8)))
    pairs, _ = find_pairs(rles, np.zeros(len(rles), bool))
    overlap = np.zeros((len(rles), len(rles)))
    overlap[pairs[:, 0], pairs[:, 1]] = overlap[pairs[:, 1], pairs[:, 0]] = 1
    related = stored.order[: stored.num_related]
    np.testing.assert_array_equal(overlap[np.ix_(related, related)], stored.panoptic['relation_gt'])
    assert overlap.sum() == stored.panoptic['relation_gt'].sum()


@golden_files.parametrize('model_train_*_inputs')
def test_proposals_and_their_sampling(golden_path):
    stored = stored_example(golden_path)
    sampled, outputs = stored.sampled, forward(golden_path)
    grids = [anchor_grid(*x.shape[1:3], s).reshape(-1, 4) for x, s in zip(outputs['features'], STRIDES, strict=True)]
    scores, deltas = jax.tree.map(lambda level: level[0], outputs['anchors'])
    propose = jax.jit(functools.partial(propose_boxes, anchors=grids, pre_nms=2000, post_nms=2000))
    boxes, logits, _ = propose(scores, deltas, image_size=stored.size[0])
    expected = sampled['proposals'][:, 1:] + SHIFT
    # 1e-4 as for features: the scores come from the image here, through the whole network.
    close(np.sort(nn.sigmoid(logits)), np.sort(sampled['proposal_scores'].ravel()), 1e-4)
    distance = np.abs(np.asarray(boxes)[:, None] - expected[None]).max(axis=-1)
    assert np.mean(distance.min(axis=0) < 1e-2) >= 0.995, 'a few of the nearly tied ones may differ'

    # The published code samples at the scale of the original image.
    scale = stored.inputs['im_info'][0, 2]
    truth = stored.panoptic['gt_rois'][:, 1:] / scale + SHIFT
    candidates = sampled['proposals'][:, 1:] / scale + SHIFT
    count = len(truth)
    drawn = jax.jit(functools.partial(sample_proposals, batch_size=len(sampled['rois'])))(
        candidates, np.ones(len(candidates), bool), truth, stored.classes, np.ones(count, bool),
        np.zeros(count, bool), priority=jnp.arange(count + len(candidates)),
    )  # fmt: skip
    np.testing.assert_array_equal(drawn.labels, sampled['labels'])
    np.testing.assert_allclose((drawn.boxes - SHIFT) * scale, sampled['rois'][:, 1:], atol=1e-3)
    np.testing.assert_allclose(drawn.targets, sampled['bbox_target_own_class'], atol=1e-3)


@golden_files.parametrize('model_train_*_inputs')
def test_outputs_of_the_heads(golden_path):
    stored = stored_example(golden_path)
    golden, sampled, outputs = stored.panoptic, stored.sampled, forward(golden_path)
    for level, expected in zip(outputs['features'], golden['fpn_stats'], strict=True):
        np.testing.assert_allclose(published.statistics(level), expected, rtol=1e-4)
    class_logits, deltas = outputs['boxes']
    near(class_logits[0], sampled['cls_score'])
    own = np.maximum(sampled['labels'] - 1, 0)
    foreground = sampled['labels'] > 0
    near(deltas[0, np.arange(len(own)), own][foreground], sampled['bbox_pred_own_class'][foreground])
    accuracy = np.mean(np.argmax(class_logits[0], axis=-1) == sampled['labels'])
    np.testing.assert_allclose(accuracy, stored.results['losses']['rcnn_accuracy'], atol=1.5 / len(own))
    near(outputs['semantic'][..., ::7], nhwc(golden['fcn_score_stride7']))
    near(outputs['semantic_boxes'][0, ..., ::7], nhwc(golden['fcn_roi_score_stride7']))
    near(outputs['masks'][0], golden['mask_score_gt'][:, 0])


@golden_files.parametrize('model_train_*_inputs')
def test_resolving_and_panoptic_head(golden_path):
    stored = stored_example(golden_path)
    golden, outputs, order = stored.panoptic, forward(golden_path), stored.order
    relations = np.asarray(outputs['relations'][0])
    related = order[: stored.num_related]
    np.testing.assert_allclose(relations[np.ix_(related, related)], golden['O'], atol=1e-5)
    boxes, labels = jnp.array(stored.boxes), stored.panoptic_target()

    @jax.jit
    def resolve(mask_logits, semantic):
        pasted, _ = paste_masks(mask_logits, boxes, semantic.shape[1:3], 4)
        resolved = resolve_overlaps(pasted, relations)
        own = semantic_instance_logits(semantic, boxes[None], stored.classes[None], num_stuff=NUM_STUFF, stride=4)
        instances = combine(own, resolved[None], head=1)
        logits = panoptic_logits(semantic[..., :NUM_STUFF], instances, jnp.ones((1, len(boxes)), bool))
        return pasted, resolved, instances[0], losses.cross_entropy(logits[0], labels), jnp.argmax(logits[0], axis=-1)

    pasted, resolved, instances, loss_map, winner = resolve(golden['mask_score_gt'][:, 0], outputs['semantic'])
    np.testing.assert_allclose(pasted, golden['mask_term'][0], atol=1e-4)
    np.testing.assert_allclose(resolved[related], golden['resolved'][0], atol=1e-3)
    np.testing.assert_allclose(instances[order], golden['panoptic_inst_logits'][0], atol=1e-3)
    known = labels >= 0
    np.testing.assert_allclose(np.where(known, loss_map, 0), golden['panoptic_loss_map'][0], atol=1e-3)
    accuracy = np.mean((winner == labels)[known])
    np.testing.assert_allclose(accuracy, stored.results['losses']['panoptic_accuracy'], atol=1.5 / known.sum())


@golden_files.parametrize('model_train_*_inputs')
def test_losses_and_gradients(golden_path):
    stored = stored_example(golden_path)
    weights = dict(OBJECTIVE.weights)
    del weights['occlusion']  # of a head that the published network does not have
    assert {OURS[name]: pytest.approx(weight) for name, weight in weights.items()} == stored.results['loss_weights']
    (total, values), gradients = differentiated(golden_path)
    for name, value in values.items():
        np.testing.assert_allclose(value, stored.results['losses'][OURS[name]], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(total, stored.results['losses']['total'], rtol=1e-4)
    check_gradients(gradients, stored.results['grad'])


@golden_files.parametrize('model_train_*_inputs')
def test_padding_of_the_batch_does_not_change_the_losses(golden_path):
    stored = stored_example(golden_path)
    batch, assignment = stored.batch(), stored.assignment()
    rows, columns = 64, 96

    def pad(array, stride, value):
        widths = ((0, 0), (0, rows // stride), (0, columns // stride))
        return jnp.pad(array, (*widths, *[(0, 0)] * (array.ndim - 3)), constant_values=value)

    padded = batch | {
        'image': pad(batch['image'], 1, 77),
        'semantic': pad(batch['semantic'], 1, SEMANTIC_IGNORE),
        'panoptic': pad(batch['panoptic'], 4, -1),
    }
    labels, targets, start = [], [], 0
    height, width = batch['image'].shape[1:3]
    for stride in STRIDES:
        shape = (-(-height // stride), -(-width // stride), 3)
        level = slice(start, start + int(np.prod(shape)))
        larger = (-(-(height + rows) // stride), -(-(width + columns) // stride))
        widths = ((0, 0), (0, larger[0] - shape[0]), (0, larger[1] - shape[1]), (0, 0))
        label = assignment.anchor_labels[:, level].reshape(1, *shape)
        target = assignment.anchor_targets[:, level].reshape(1, *shape, 4)
        labels.append(jnp.pad(label, widths, constant_values=-1).reshape(1, -1))
        targets.append(jnp.pad(target, (*widths, (0, 0))).reshape(1, -1, 4))
        start = level.stop
    enlarged = assignment._replace(
        anchor_labels=jnp.concatenate(labels, axis=1), anchor_targets=jnp.concatenate(targets, axis=1)
    )
    together = jax.jit(nn.apply(losses_of, published.network()))(published.variables(), padded, enlarged)
    (_, alone), _ = differentiated(golden_path)
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-4, err_msg=name)


def check_gradients(gradients, expected):
    """Norm, sum and first entries of the gradient of every trained parameter, in the published layout."""
    checked = set()
    for path, gradient in traverse_util.flatten_dict(gradients).items():
        name, layout = published_entry(path)
        gradient = np.asarray(gradient, np.float64)
        if name not in expected:
            assert not gradient.any(), f'{name} is frozen'
            continue
        checked.add(name)
        norm, total, first = expected[name]
        np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=3e-3, err_msg=name)
        # Rounding of n numbers adds up to about sqrt(n) times one of them: the norm.
        np.testing.assert_allclose(gradient.sum(), total, atol=3e-3 * np.sqrt(gradient.size) * norm, err_msg=name)
        shape = layout.source_shape(gradient.shape)
        place = layout.convert(np.arange(np.prod(shape)).reshape(shape))
        entries = [gradient[place == index].sum() for index in range(len(first))]  # background rows have none
        np.testing.assert_allclose(entries, first, atol=3e-3 * norm, err_msg=name)
    assert checked == set(expected)
