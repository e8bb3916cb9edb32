"""The relation head against the published code's numbers and against loops over the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax import losses
from sognet_jax.models.relation_head import RelationHead, relative_geometry
from sognet_jax.ops.overlap import resolve_overlaps
from tests.support import golden_files
from tests.support.golden_files import close
from tests.support.published_relations import PUBLISHED, half_open, published_params


@golden_files.parametrize('relation_head_')
def test_published_form_gives_the_published_numbers(golden_path):
    golden = golden_files.load(golden_path)
    classes = golden['cls_idx'] - 1
    everyone = np.ones(len(classes), bool)

    def head(params, boxes):
        return PUBLISHED.apply({'params': params}, classes, boxes, None, everyone)

    def resolved(params, boxes, masks):
        return resolve_overlaps(masks, head(params, boxes))

    def loss(params, boxes):
        return losses.overlap_relation_loss(head(params, boxes), golden['relation_gt'] > 0, everyone)

    @jax.jit
    def outputs(params, boxes, masks):
        masks_resolved, pull_back = jax.vjp(resolved, params, boxes, masks)
        logit = PUBLISHED.apply({'params': params}, classes, boxes, None, method='potential')
        gradients = pull_back(golden['cotangent'][0])
        return logit, head(params, boxes), masks_resolved, gradients, jax.value_and_grad(loss, (0, 1))(params, boxes)

    params, boxes, masks = published_params(golden), half_open(golden['bbox']), golden['mask'][0]
    geometry = relative_geometry(jnp.array(boxes))
    # Stored geometry[i, j] is normalised by i and points to j: the paper's E_{j|i}.
    close(np.swapaxes(geometry, 0, 1), golden['geometry'])
    logit, relations, masks_resolved, (gradient, box_gradient, mask_gradient), (value, gradients) = outputs(
        params, boxes, masks
    )
    close(logit, golden['logit'])
    close(relations, golden['O'])
    close(masks_resolved, golden['out_mask'][0])
    close(mask_gradient, golden['grad_mask'][0], 1e-4)
    close(value, golden['relation_loss'])
    decided = away_from_kinks(geometry @ params['K']['kernel'])
    check_gradients(gradient, box_gradient, golden, 'grad_', *decided)
    check_gradients(*gradients, golden, 'gradL_', *decided)


def away_from_kinks(embedded):
    """Instances and geometry units whose ReLUs are not at 0 within rounding, where either derivative would be right."""
    at_kink = np.abs(np.asarray(embedded)) < 1e-6
    at_kink[np.arange(len(at_kink)), np.arange(len(at_kink))] = False  # the diagonal is 0 in O for every weight
    instances, units = ~at_kink.any((1, 2)) & ~at_kink.any((0, 2)), ~at_kink.any((0, 1))
    assert instances.mean() > 0.5 and units.mean() > 0.9
    return instances, units


def check_gradients(gradient, box_gradient, golden, prefix, instances, units):
    close(box_gradient[instances], golden[prefix + 'bbox'][instances, 1:], 1e-4)
    close(gradient['category_embedding']['U']['kernel'].T, golden[prefix + 'U'], 1e-4)
    close(gradient['category_embedding']['V']['kernel'].T, golden[prefix + 'V'], 1e-4)
    close(gradient['K']['kernel'].T[units], golden[prefix + 'W'][units, :, 0, 0], 1e-4)
    close(gradient['fc']['kernel'].T, golden[prefix + 'P'][:, :, 0, 0], 1e-4)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (4, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (4, 2))], axis=1).astype(np.float32)
    return rng.integers(0, 6, 4), boxes, rng.uniform(0, 1, (4, 28, 28)).astype(np.float32)


def test_paper_form_is_equations_1_to_5_written_as_loops(scene):
    classes, boxes, masks = scene
    head = RelationHead(6, rank=7, category_features=5, appearance_features=3, geometry_features=4)
    takes_part = np.array([True, True, False, True])
    variables = head.init(jax.random.key(0), classes, boxes, masks, takes_part)
    weights = jax.tree.map(np.asarray, variables['params'])

    def relu(x):
        return np.maximum(x, 0)

    def embed(name, x_i, x_j):  # Eq. (1)
        kernels = {key: value['kernel'] for key, value in weights[name].items()}
        return kernels['P'].T @ (relu(kernels['V'].T @ x_i) * relu(kernels['U'].T @ x_j))

    potential = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
            x, y = boxes[:, 0] + w / 2, boxes[:, 1] + h / 2
            geometry = np.array([(x[i] - x[j]) / w[j], (y[i] - y[j]) / h[j], np.log(w[i] / w[j]), np.log(h[i] / h[j])])
            edge = np.concatenate(
                [
                    embed('appearance_embedding', masks[i].ravel(), masks[j].ravel()),
                    embed('category_embedding', np.eye(6)[classes[i]], np.eye(6)[classes[j]]),
                    weights['K']['kernel'].T @ geometry,
                ]
            )
            logit = edge @ weights['fc']['kernel'][:, 0] + weights['fc']['bias'][0]
            potential[i, j] = 1 / (1 + np.exp(-logit))
    expected = relu(potential - potential.T) * np.outer(takes_part, takes_part)
    np.testing.assert_allclose(head.apply(variables, classes, boxes, masks, takes_part), expected, atol=1e-5)


@pytest.mark.parametrize('feature', ['category', 'geometry', 'appearance'])
def test_a_feature_that_is_switched_off_has_no_effect(scene, feature):
    classes, boxes, masks = scene
    everyone = np.ones(4, bool)
    head = RelationHead(6, **{feature: False})
    variables = head.init(jax.random.key(1), classes, boxes, masks, everyone)
    changed = {
        'category': (5 - classes, boxes, masks),
        'geometry': (classes, boxes[::-1], masks),
        'appearance': (classes, boxes, 1 - masks),
    }[feature]
    np.testing.assert_array_equal(
        head.apply(variables, classes, boxes, masks, everyone), head.apply(variables, *changed, everyone)
    )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'form': 'papers'}, 'model.relation.form'),
        ({'form': 'published'}, 'appearance'),
        ({'category': False, 'geometry': False, 'appearance': False}, 'at least one'),
    ],
)
def test_contradicting_options_are_refused(scene, options, message):
    classes, boxes, masks = scene
    with pytest.raises(ValueError, match=message):
        RelationHead(6, **options).init(jax.random.key(0), classes, boxes, masks, np.ones(4, bool))
