"""Implementations of ROI align that run on every device."""

from sognet_jax.kernels.choice import TRITON
from sognet_jax.kernels.roi_align import IMPLEMENTATIONS

RUNNABLE = tuple(name for name in IMPLEMENTATIONS if name != TRITON)
