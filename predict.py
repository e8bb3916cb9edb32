"""Segments images: `python predict.py --checkpoint=runs/shapes --output=DIR images...`.

Images are files, and folders of files. For each, `pictures/` gets its segments, who covers whom and the matrix O as a
picture, `panoptic/` the segment ids as a COCO panoptic PNG; `predictions.json` describes them all. The checkpoint says
what network it is of; `--config.inference.score_threshold=0.5` and the like override what it says.
"""

from sognet_jax.programs.predict import start

if __name__ == '__main__':
    start()
