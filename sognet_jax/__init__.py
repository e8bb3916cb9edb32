"""SOGNet: panoptic segmentation that says who lies on whom, in JAX.

model = sognet_jax.load('runs/demo')
scene = model(image)  # [h, w, 3] uint8 RGB
scene.segments, scene.panoptic, scene.overlaps, scene.picture(), scene.to_json()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sognet_jax.predictor.predictor import Predictor, load
    from sognet_jax.scene import Scene

__version__ = '0.1.0'

__all__ = ['Predictor', 'Scene', '__version__', 'load']

_HOMES = {'load': 'predictor.predictor', 'Predictor': 'predictor.predictor', 'Scene': 'scene'}


def __getattr__(name: str) -> Any:
    """JAX is imported when it is needed."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
