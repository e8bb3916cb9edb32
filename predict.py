"""Segments images: `python predict.py --config=configs/shapes.py --checkpoint=runs/shapes --output=DIR images...`.

Images are files, and folders of files. For each, `pictures/` gets its segments, who covers whom and the matrix O as a
picture, `panoptic/` the segment ids as a COCO panoptic PNG; `predictions.json` describes them all.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.programs.predict import predict_images

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py or configs/NAME.py:VARIANT.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.')
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results.')


def main(arguments: list[str]) -> None:
    """Predicts as the flags say."""
    choose_eigen()
    logging.set_verbosity(logging.ERROR)  # Orbax narrates every step; what fails is raised
    if len(arguments) < 2:
        raise app.UsageError('no images: name files, or folders of images, behind the flags')
    count = predict_images(CONFIG.value, CHECKPOINT.value, OUTPUT.value, arguments[1:])
    print(f'{OUTPUT.value}/predictions.json, and pictures and panoptic PNGs of {count} images beside it')


if __name__ == '__main__':
    flags.mark_flags_as_required(['config', 'checkpoint', 'output'])
    app.run(main)
