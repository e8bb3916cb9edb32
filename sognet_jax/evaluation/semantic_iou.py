"""Mean intersection over union of the semantic head."""

import numpy as np

from sognet_jax.contract import SEMANTIC_IGNORE


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """`[C, C]` pixels by true and predicted class, of two maps of train ids; `SEMANTIC_IGNORE` is left out."""
    known = truth != SEMANTIC_IGNORE
    index = truth[known].astype(np.int64) * num_classes + prediction[known]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """`[C]` IoU of each class, in 0..1; NaN for classes that occur neither in truth nor in prediction."""
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU of the classes that occur in truth or prediction, in 0..1."""
    iou = class_iou(confusion)
    occurs = ~np.isnan(iou)
    return float(iou[occurs].mean()) if occurs.any() else 0.0
