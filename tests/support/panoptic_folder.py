"""A ground truth and predictions in COCO's panoptic format, written by tests."""

import copy
import json

import cv2
import numpy as np

from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles
from sognet_jax.programs import score_files
from tests.support.panoptic_quality import random_image

CATEGORIES = [
    {'id': 7, 'name': 'ball', 'isthing': 1, 'color': [1, 2, 3]},
    {'id': 3, 'name': 'road', 'isthing': 0},
    {'id': 12, 'name': 'box', 'isthing': 1},
    {'id': 150, 'isthing': 0},
]
IDS = [category['id'] for category in CATEGORIES]


class Folder:
    """Files of a ground truth and of predictions that can be changed before they are written."""

    def __init__(self, path, categories=CATEGORIES):
        self.path = path
        self.truth = {'images': [], 'annotations': [], 'categories': copy.deepcopy(categories)}
        self.prediction = {'annotations': []}
        self.files = PanopticFiles(path / 'gt.json', path / 'gt', path / 'pred.json', path / 'pred')
        for folder in (self.files.truth_folder, self.files.predicted_folder):
            folder.mkdir(parents=True)

    def add(self, image_id, truth, true_segments, prediction, predicted_segments):
        """Segments have the ids of their categories."""
        name = f'{image_id}.png'
        for folder, id_map in ((self.files.truth_folder, truth), (self.files.predicted_folder, prediction)):
            write_ids(folder / name, id_map)
        true_infos = [
            {
                'id': int(segment_id),
                'category_id': int(category),
                'iscrowd': int(crowd),
                'area': int((truth == segment_id).sum()),
                'bbox': [0, 0, 1, 1],
            }
            for segment_id, category, crowd in true_segments
        ]
        infos = [{'id': int(segment[0]), 'category_id': int(segment[1])} for segment in predicted_segments]
        for content, entries in ((self.truth, true_infos), (self.prediction, infos)):
            content['annotations'].append({'image_id': image_id, 'file_name': name, 'segments_info': entries})

    def save(self):
        self.files.truth_json.write_text(json.dumps(self.truth))
        self.files.predicted_json.write_text(json.dumps(self.prediction))
        return self.files

    def command(self, *more):
        options = ['--gt_json', str(self.files.truth_json), '--pred_json', str(self.files.predicted_json), *more]
        return score_files.main(options)


def write_ids(path, id_map):
    ids = id_map.astype(np.int64)
    bgr = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
    assert cv2.imwrite(str(path), bgr)


def with_ids(image):
    truth, true_segments, prediction, predicted_segments = image
    true_segments = [(segment_id, IDS[category], crowd) for segment_id, category, crowd in true_segments]
    predicted_segments = [(segment_id, IDS[category]) for segment_id, category in predicted_segments]
    return truth, true_segments, prediction, predicted_segments


def random_folder(path, count):
    folder = Folder(path)
    images = [random_image(seed) for seed in range(count)]
    for number, image in enumerate(images):
        folder.add(1000 - number, *with_ids(image))
    folder.prediction['annotations'].reverse()
    return folder, images
