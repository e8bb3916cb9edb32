import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.targets.proposals import sample_proposals
from tests.support import golden_files
from tests.support.published_targets import INCLUSIVE_TO_HALF_OPEN, sampled_proposals


@golden_files.parametrize('proposal_target')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    sampled = sampled_proposals(golden)
    scale = golden['im_info'][0, 2]
    assert sampled.valid.sum() == len(golden['out_rois'])
    used = np.asarray(sampled.valid)
    rois = (sampled.boxes[used] - INCLUSIVE_TO_HALF_OPEN) * scale
    np.testing.assert_allclose(rois, golden['out_rois'][:, 1:], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(sampled.labels[used], golden['out_labels'])
    np.testing.assert_allclose(sampled.targets[used], golden['out_bbox_targets'], rtol=1e-4, atol=1e-4)
    assert not np.any(golden['is_crowd'][sampled.matched]), 'masks come from instances'


def random_scene(seed: int, num_proposals: int = 60, num_boxes: int = 6):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 80, (num_boxes, 2)), rng.uniform(8, 40, (num_boxes, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    proposals = boxes[rng.integers(0, num_boxes, num_proposals)] + rng.normal(0, 8, (num_proposals, 4))
    proposals[:, 2:] = np.maximum(proposals[:, 2:], proposals[:, :2] + 1)
    return {
        'proposals': jnp.array(proposals, jnp.float32),
        'proposal_valid': jnp.array(rng.uniform(size=num_proposals) < 0.8),
        'boxes': jnp.array(boxes, jnp.float32),
        'classes': jnp.array(rng.integers(0, 8, num_boxes)),
        'valid': jnp.array([True, True, False, True, True, False]),
        'crowd': jnp.array([False, False, False, False, False, True]),
        'priority': jnp.array(rng.uniform(size=num_proposals + num_boxes), jnp.float32),
    }


def draw(scene, batch_size):
    return jax.jit(sample_proposals, static_argnames='batch_size')(**scene, batch_size=batch_size)


def naive_iou(a, b):
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap)


@pytest.mark.parametrize('seed', range(4))
def test_random_sample_keeps_the_rules(seed):
    scene = random_scene(seed)
    sampled = draw(scene, 32)
    boxes, labels, valid, matched, targets = map(np.asarray, sampled)
    real, crowd = np.flatnonzero(scene['valid']), int(np.flatnonzero(scene['crowd'])[0])
    assert np.all(np.diff((labels > 0).astype(int)) <= 0), 'foreground comes first'
    assert np.sum(labels > 0) <= 8
    for slot in np.flatnonzero(valid):
        overlaps = {k: naive_iou(boxes[slot], np.asarray(scene['boxes'][k])) for k in [*real, crowd]}
        best = max(overlaps, key=overlaps.get)
        assert overlaps[crowd] < 1, 'the crowd box itself is no candidate'
        assert (labels[slot] > 0) == (overlaps[best] >= 0.5)
        assert matched[slot] == max(real, key=overlaps.get)
        if labels[slot]:
            assert labels[slot] == scene['classes'][best] + 1
    assert not np.any(targets[labels == 0])
    assert np.all(np.isfinite(targets))
    assert len(np.unique(boxes[valid], axis=0)) == valid.sum(), 'no candidate is drawn twice'


def test_no_instances_gives_background_alone():
    scene = random_scene(0) | {'valid': jnp.zeros(6, bool), 'crowd': jnp.zeros(6, bool)}
    sampled = draw(scene, 32)
    assert sampled.valid.all()
    assert not sampled.labels.any()


def test_fewer_candidates_than_slots():
    scene = random_scene(0, num_proposals=4)
    sampled = draw(scene, 64)
    assert sampled.boxes.shape == (64, 4)
    assert 0 < sampled.valid.sum() <= 10
    assert not sampled.labels[~sampled.valid].any()
