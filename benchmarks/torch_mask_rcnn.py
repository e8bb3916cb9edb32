"""torchvision's Mask R-CNN with ResNet-50 and a feature pyramid, as runs of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import torch_peers
from benchmarks.timing import Run

NAME = 'torchvision Mask R-CNN'


def runs(program: str, batch: Mapping[str, Any], dtype: str, max_instances: int) -> list[Run]:
    """One run of the program; none where torchvision is not installed.

    Args:
        program: `inference` or `training step`.
        batch: examples of the data contract; their boxes are also the masks.
        dtype: of our network; on a GPU bfloat16 means autocast to it.
        max_instances: that inference may find in an image.
    """
    if torch_peers.torch is None:
        return []
    torch, torchvision = torch_peers.torch, torch_peers.torchvision
    device = torch_peers.device()
    images = [torch.tensor(np.moveaxis(np.asarray(x), -1, 0) / np.float32(255), device=device) for x in batch['image']]
    size = images[0].shape[1:]  # as which images are taken: the network would resize them
    # As ours is trained, and as it is trained from published weights: stem, res2 and normalisation stay as they are.
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name='resnet50', weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d, trainable_layers=3
    )
    network = detection.MaskRCNN(
        backbone, num_classes=91, box_score_thresh=0.0, box_detections_per_img=max_instances, min_size=min(size),
        max_size=max(size),
    ).to(device)  # fmt: skip
    reduced = torch.autocast(device, torch.bfloat16, enabled=dtype == 'bfloat16' and device == 'cuda')
    if program == 'inference':
        function = _inference(network, images)
    else:
        function = _training_step(network, images, [_target(batch, index, device) for index in range(len(images))])

    def start() -> Any:
        with reduced:
            return function()

    return [torch_peers.run(NAME, start)]


def _inference(network: Any, images: list[Any]) -> Callable[[], Any]:
    network.eval()

    def function() -> Any:
        with torch_peers.torch.no_grad():
            return network(images)

    return function


def _training_step(network: Any, images: list[Any], targets: list[Any]) -> Callable[[], None]:
    network.train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch_peers.torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def function() -> None:
        optimizer.zero_grad()
        sum(network(images, targets).values()).backward()
        optimizer.step()

    return function


def _target(batch: Mapping[str, Any], index: int, device: str) -> dict[str, Any]:
    torch = torch_peers.torch
    valid = np.asarray(batch['valid'][index])
    boxes = np.asarray(batch['boxes'][index])[valid]
    masks = np.zeros((len(boxes), *batch['image'].shape[1:3]), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    arrays = {'boxes': boxes, 'labels': np.asarray(batch['classes'][index])[valid].astype(np.int64) + 1, 'masks': masks}
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}
