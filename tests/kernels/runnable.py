"""Implementations of ROI align that run on every device."""

from kernels.choice import TRITON
from kernels.roi_align import IMPLEMENTATIONS

RUNNABLE = tuple(name for name in IMPLEMENTATIONS if name != TRITON)
