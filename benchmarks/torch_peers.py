"""torchvision's operators as runs of a comparison; none where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.timing import Run

try:
    import torch
    import torchvision
except ImportError:
    torch = torchvision = None

Peers = dict[str, list[Run]]


def versions() -> dict[str, str]:
    """Of torch and torchvision, as far as they are installed."""
    return {'torch': torch.__version__, 'torchvision': torchvision.__version__} if torch else {}


def device() -> str:
    """Where torch runs: on the kind of device that JAX has.

    Raises:
        RuntimeError: JAX has a GPU and torch has none.
    """
    if jax.default_backend() == 'cpu':
        return 'cpu'
    if not torch.cuda.is_available():
        raise RuntimeError('JAX runs on a GPU here and torch does not: install a torch with CUDA, or none')
    return 'cuda'


def deform_conv(inputs: Sequence[np.ndarray], dtype: str) -> Peers:
    """`torchvision.ops.deform_conv2d` with 3 x 3 taps and padding 1.

    Args:
        inputs: x `[B, H, W, C]`, offset, weight `[3, 3, C, O]` and mask, channels last.
        dtype: that of our runs, which decides torch's.
    """
    x, offset, weight, mask = inputs
    arrays = [np.moveaxis(x, -1, 1), np.moveaxis(offset, -1, 1), weight.transpose(3, 2, 0, 1), np.moveaxis(mask, -1, 1)]

    def function(x: Any, offset: Any, weight: Any, mask: Any) -> Any:
        return torchvision.ops.deform_conv2d(x, offset, weight, None, padding=1, mask=mask)

    return _peers(function, arrays, dtype)


def roi_align(
    features: Sequence[np.ndarray], boxes: np.ndarray, output_size: int, image: tuple[int, int], dtype: str
) -> Peers:
    """`torchvision.ops.MultiScaleRoIAlign`, which pools every box from its own level with `roi_align`.

    Args:
        features: levels `[1, H, W, C]`.
        boxes: `[R, 4]`.
        output_size: cells a side.
        image: H, W.
        dtype: that of our runs, which decides torch's.
    """
    names = [str(level) for level in range(len(features))]

    def function(*features: Any) -> Any:
        pool = torchvision.ops.MultiScaleRoIAlign(names, output_size, sampling_ratio=2)
        rectangles = torch.tensor(boxes, dtype=features[0].dtype, device=features[0].device)
        return pool(dict(zip(names, features, strict=True)), [rectangles], [image])

    return _peers(function, [np.moveaxis(level, -1, 1) for level in features], dtype)


def _peers(function: Callable[..., Any], arrays: Sequence[np.ndarray], dtype: str) -> Peers:
    """Runs of both passes; in the types that torchvision has where ours is bfloat16."""
    peers: Peers = {'forward': [], 'forward + backward': []}
    if torch is None:
        return peers
    if device() == 'cpu':
        types = [('torchvision', torch.float32)] if dtype == 'float32' else []
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        types = [('torchvision (TF32)', torch.float32)]
        types += [('torchvision (float16)', torch.float16)] if dtype == 'bfloat16' else []
    for name, torch_type in types:
        tensors = [torch.tensor(array, dtype=torch_type, device=device()).contiguous() for array in arrays]
        peers['forward'].append(run(name, lambda tensors=tensors: _forward(function, tensors)))
        peers['forward + backward'].append(run(name, lambda tensors=tensors: _both(function, tensors)))
    return peers


def _forward(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    with torch.no_grad():
        return function(*tensors)


def _both(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves)
    return torch.autograd.grad(output, leaves, output.detach())


def run(name: str, start: Callable[[], Any]) -> Run:
    """Work of torch, which waits for the device and reads the allocator on a GPU."""

    def device_bytes() -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def wait(result: Any) -> None:
        if device() == 'cuda':
            torch.cuda.synchronize()

    return Run(name, start, wait, device_bytes if device() == 'cuda' else None)
