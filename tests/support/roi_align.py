"""Implementations of ROI align that run on every device, each once: `by_platform` is one of the others."""

from sognet_jax.kernels.choice import TRITON
from sognet_jax.kernels.roi_align import IMPLEMENTATIONS

RUNNABLE = tuple(name for name in IMPLEMENTATIONS if name not in (TRITON, 'by_platform'))
