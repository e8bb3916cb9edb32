"""Panoptic fusion step by step in NumPy, as the published inference does it with tensors: the peer of the operator.

Every mask is pasted at full size, every pair of instances is visited in turn, and each step works on whole images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BALANCE = 2.0


def draw_scene(seed: int, instances: int, size: tuple[int, int], num_stuff: int, num_things: int) -> dict[str, Any]:
    """Arguments of `panoptic_fusion` for a crowded image in which every two instances have a relation.

    Args:
        seed: of the random numbers.
        instances: N; the sides of their boxes are 40 to 400 pixels, or half of the image where that is less.
        size: H, W.
        num_stuff, num_things: semantic classes; their logits are smooth over some 30 pixels.
    """
    rng = np.random.default_rng(seed)
    largest = np.minimum(400, np.array(size[::-1]) / 2)
    sides = rng.uniform(np.minimum(40, largest / 2), largest, (instances, 2))
    corner = rng.uniform(0, np.array(size[::-1]) - sides)
    upper = np.triu(rng.uniform(0.05, 0.95, (instances, instances)), 1)
    flip = rng.uniform(size=upper.shape) < 0.5
    coarse = rng.normal(0, 2, (size[0] // 32 + 1, size[1] // 32 + 1, num_stuff + num_things))
    semantic = coarse.repeat(8, axis=0).repeat(8, axis=1)[: size[0] // 4, : size[1] // 4]
    return {
        'mask_logits': (rng.normal(1, 2, (instances, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)).astype(np.float32),
        'boxes': np.concatenate([corner, corner + sides], axis=1).astype(np.float32),
        'classes': rng.integers(0, num_things, instances),
        'valid': np.ones(instances, bool),
        'relations': (np.where(flip, upper, 0) + np.where(flip, 0, upper).T).astype(np.float32),
        'semantic': (semantic + rng.normal(0, 0.1, semantic.shape)).astype(np.float32),
        'partners': rng.integers(1, 9, instances),
    }


def fuse_stepwise(
    mask_logits: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    valid: np.ndarray,
    relations: np.ndarray,
    semantic: np.ndarray,
    size: tuple[int, int],
    *,
    partners: np.ndarray,
    num_stuff: int,
    resolve: str = 'sequential',
) -> np.ndarray:
    """The panoptic id map `[H, W]` with the published choices: Eq. (10), presence 0.5 outside a box, no void.

    Arguments and result are those of `kernels.panoptic_fusion.panoptic_fusion`.
    """
    order = np.argsort(-partners, kind='stable')
    order = order[valid[order]]
    corners = boxes[order] - np.array([0, 0, 1, 1], np.float32)
    relations = relations[np.ix_(order, order)]
    pasted = np.stack([_paste(*pair, size) for pair in zip(mask_logits[order], corners, strict=True)])
    resolved = _resolve_joint(pasted, relations) if resolve == 'joint' else _resolve_pairs(pasted, relations)
    semantic = _interpolate(semantic, size)
    cropped = np.zeros_like(resolved)
    for index, (x1, y1, x2, y2) in enumerate(corners):
        rows = slice(max(int(y1), 0), max(int(np.round(y2)) + 1, 0))
        columns = slice(max(int(x1), 0), max(int(np.round(x2)) + 1, 0))
        cropped[index, rows, columns] = semantic[num_stuff + classes[order[index]], rows, columns]
    panoptic = np.concatenate([semantic[:num_stuff], BALANCE * cropped * _sigmoid(resolved) + resolved])
    return np.concatenate([np.arange(num_stuff), num_stuff + order])[panoptic.argmax(axis=0)].astype(np.int32)


def _resolve_pairs(logits: np.ndarray, relations: np.ndarray) -> np.ndarray:
    """Pair by pair, each on the logits that the pairs before it left, in place."""
    for i in range(len(logits)):
        for j in range(i + 1, len(logits)):
            if relations[i, j] + relations[j, i] > 0:
                both = _sigmoid(logits[i]) * _sigmoid(logits[j])
                logits[i] -= logits[i] * both * relations[i, j]
                logits[j] -= logits[j] * both * relations[j, i]
    return logits


def _resolve_joint(logits: np.ndarray, relations: np.ndarray) -> np.ndarray:
    present = _sigmoid(logits)
    return logits - logits * present * np.tensordot(relations, present, axes=1)


def _paste(logits: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`[M, M]` logits resized to the pixels from the first to the last inclusive corner, 0 elsewhere."""
    x1, y1, x2, y2 = corners.astype(np.int32)
    resized = _interpolate(logits[..., None], (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)))[0]
    left, top = max(x1, 0), max(y1, 0)
    visible = resized[top - y1 : size[0] - y1, left - x1 : size[1] - x1]
    pasted = np.zeros(size, np.float32)
    pasted[top : top + visible.shape[0], left : left + visible.shape[1]] = visible
    return pasted


def _interpolate(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres: `[h, w, C]` -> `[C, H, W]`."""

    def taps(length: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        source = np.clip((np.arange(length) + 0.5) * samples / length - 0.5, 0, samples - 1)
        low = np.minimum(source.astype(np.int32), max(samples - 2, 0))
        return low, np.minimum(low + 1, samples - 1), (source - low).astype(np.float32)

    image = np.moveaxis(image, -1, 0)
    low, high, share = taps(size[0], image.shape[1])
    image = image[:, low] * (1 - share)[:, None] + image[:, high] * share[:, None]
    low, high, share = taps(size[1], image.shape[2])
    return image[:, :, low] * (1 - share) + image[:, :, high] * share


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):
        return 1 / (1 + np.exp(-x))
