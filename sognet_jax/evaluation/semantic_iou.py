"""Mean intersection over union of the semantic head."""

from __future__ import annotations

import numpy as np

from sognet_jax.categories import IGNORE


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """`[C, C]` pixels by true and predicted class; ignored pixels are left out.

    Args:
        truth: train ids, `IGNORE` where unknown.
        prediction: train ids, same shape.
        num_classes: C.
    """
    known = truth != IGNORE
    index = truth[known].astype(np.int64) * num_classes + prediction[known]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU of the classes that occur in truth or prediction, in 0..1."""
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    occurs = union > 0
    return float((hits[occurs] / union[occurs]).mean()) if occurs.any() else 0.0
