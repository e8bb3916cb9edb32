"""The labels that Cityscapes annotates: more than the 19 classes that are evaluated (`categories.CITYSCAPES`)."""

LABELS = (
    'unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic', 'ground',
    'road', 'sidewalk', 'parking', 'rail track',
    'building', 'wall', 'fence', 'guard rail', 'bridge', 'tunnel',
    'pole', 'polegroup', 'traffic light', 'traffic sign',
    'vegetation', 'terrain',
    'sky',
    'person', 'rider',
    'car', 'truck', 'bus', 'caravan', 'trailer', 'train', 'motorcycle', 'bicycle',
)  # fmt: skip
"""Names by label id, a line for each group: void, flat, construction, object, nature, sky, human, vehicle.

`license plate` is annotated too, but never drawn: its id is -1.
"""

LABEL_IDS = {name: label_id for label_id, name in enumerate(LABELS)} | {'license plate': -1}

INSTANCE_LABELS = range(LABEL_IDS['person'], LABEL_IDS['bicycle'] + 1)
"""Ids of the labels whose objects are told apart; caravans and trailers too, though they are not evaluated."""

INSTANCES_OF_A_LABEL = 1000
"""Object k of a label has the id 1000 label + k in `instanceIds.png`; all else has its label's id."""

GROUP = 'group'
"""Ending of a label whose polygon holds several objects that nobody can tell apart; `polegroup` is a label itself."""
