"""Segments images: `python predict.py --checkpoint=runs/shapes --output=DIR images...`.

Images are files, and folders of files. For each, `pictures/` gets its segments, who covers whom and the matrix O as a
picture, `panoptic/` the segment ids as a COCO panoptic PNG; `predictions.json` describes them all. The checkpoint says
what network it is of; `--config.inference.score_threshold=0.5` and the like override what it says.
"""

from collections.abc import Sequence

from absl import app, flags

from sognet_jax.programs import command_line
from sognet_jax.programs.predict import predict_images

CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results.', required=True)


def main(images: Sequence[str]) -> None:
    """Predicts as the flags say."""
    if not images:
        raise app.UsageError('no images: name files, or folders of images, behind the flags')
    count = predict_images(flags.FLAGS.config, CHECKPOINT.value, OUTPUT.value, images)
    print(f'{OUTPUT.value}/predictions.json, and pictures and panoptic PNGs of {count} images beside it')


if __name__ == '__main__':
    command_line.run(main, takes_arguments=True)
