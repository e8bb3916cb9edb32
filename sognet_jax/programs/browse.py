"""Shows a data set: `python -m sognet_jax.programs.browse --config=configs/coco_r50.py --output=DIR`.

Writes pictures of training examples, as the network gets them (`examples/*.png`), and statistics of the data set
(`statistics.json`, `statistics.png`, and a table on the console). With `--split`, examples of another split than the
one that is trained on are not augmented.
"""

import json
import operator
import pathlib
from collections.abc import Iterator

import ml_collections
from absl import flags

from sognet_jax.category_files import category_set
from sognet_jax.contract import Example, map_arrays
from sognet_jax.data.configured import augmentation, example_settings, prepare_split, training_source
from sognet_jax.data.examples.pipeline import SizedSource, train_dataset
from sognet_jax.data.examples.statistics import statistics, summary, table
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.records.png import encode_image
from sognet_jax.files import require_folder, write_whole
from sognet_jax.pictures.example import example_picture
from sognet_jax.pictures.statistics import statistics_figure
from sognet_jax.programs import command_line


def browse(
    config: ml_collections.ConfigDict, output: str | pathlib.Path, *, count: int = 8, split: str | None = None
) -> None:
    """Writes `statistics.json`, `statistics.png` and `examples/*.png` of a split or of what the config trains on, and
    prints the statistics.

    Raises:
        ValueError: a field of the config has a value that cannot be used, or there is no such split.
        InputError: the data are missing or broken.
        OSError: `output` is a file or cannot be written.
    """
    output = pathlib.Path(output)
    require_folder(output)
    if config.data.name != 'shapes' and not config.data.source:
        raise ValueError('config field data.source is empty; it names the folder of the data: --config.data.source=DIR')
    categories, settings = category_set(config.categories), example_settings(config)
    source: SizedSource
    if split is None or split == config.data.train_split:
        source = training_source(config)
        examples = training_examples(config, source)
    else:
        source = prepare_split(config, split)
        examples = plain_examples(config, source)
    for earlier in (output / 'examples').glob('[0-9]*_*.png'):
        earlier.unlink()
    for number, example in zip(range(count), examples, strict=False):
        path = output / 'examples' / f'{number:03d}_{int(example["image_id"])}.png'
        write_whole(path, encode_image(example_picture(example, categories)))
    found = statistics(source)
    numbers = summary(found, categories, settings)
    write_whole(output / 'statistics.json', json.dumps(numbers, indent=2) + '\n')
    statistics_figure(found, categories, settings.max_instances).savefig(output / 'statistics.png', dpi=100)
    print(table(numbers))
    print(f'\n{output}: statistics.json, statistics.png, and pictures of examples in {output / "examples"}')


def training_examples(config: ml_collections.ConfigDict, source: SizedSource) -> Iterator[Example]:
    """The first training examples of a config."""
    settings, random = example_settings(config), augmentation(config)
    batches = train_dataset(source, settings, batch_size=config.batch_size, seed=config.seed, augmentation=random)
    for step in range(len(batches)):
        batch = batches[step]
        for row in range(config.batch_size):
            yield map_arrays(operator.itemgetter(row), batch)


def plain_examples(config: ml_collections.ConfigDict, source: SizedSource) -> Iterator[Example]:
    """The examples of a split in its order, not augmented."""
    settings = example_settings(config)
    for index in range(len(source)):
        yield make_example(source[index], settings, either_orientation=True)


def start() -> None:
    """Runs the program."""
    flags.DEFINE_string('output', None, 'Folder for pictures and statistics.', required=True)
    flags.DEFINE_integer('count', 8, 'Number of examples that are drawn.', lower_bound=0)
    flags.DEFINE_string('split', None, 'A split of the data; what the config trains on if not given.')
    given = flags.FLAGS
    command_line.run(lambda _: browse(given.config, given.output, count=given.count, split=given.split))


if __name__ == '__main__':
    start()
