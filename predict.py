"""Segments images: `python predict.py --checkpoint=runs/shapes --output=DIR images...`.

Images are files, and folders of files. For each, `pictures/` gets its segments, who covers whom, the matrix O and the
layers as a picture, `panoptic/` the segment ids as a COCO panoptic PNG; `predictions.json` describes them all,
`order.json` says what lies on what. `--formats=json,picture,graphml,ora,coco` writes more (docs/order.md). The
checkpoint says what network it is of; `--config.inference.score_threshold=0.5` and the like override it.
"""

from sognet_jax.programs.predict import start

if __name__ == '__main__':
    start()
