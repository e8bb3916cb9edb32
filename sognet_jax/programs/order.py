r"""Who lies on whom: of anybody's instances, by rules, and how well; docs/order-benchmarks.md.

python -m sognet_jax.programs.order predict --checkpoint=RUN --instances=results.json --images=DIR --output=order.json
python -m sognet_jax.programs.order predict --checkpoint=RUN --format=cocoa --source=DIR --output=order.json
python -m sognet_jax.programs.order rule --rule=lower --format=cocoa --source=DIR --output=order.json
python -m sognet_jax.programs.order score --format=cocoa --source=DIR --predicted=order.json --output=metrics.json
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import stored_config
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.data.sources.orders.readers import ORDER_FORMATS, OrderedImage, read_ordered
from sognet_jax.evaluation.summary import write_json
from sognet_jax.files import encode_entries, write_whole
from sognet_jax.json_files import Notes
from sognet_jax.order.entry import order_entry
from sognet_jax.order.files import order_matrix, read_instances, read_order
from sognet_jax.order.rules import PAIRS, RULES, follow_rule, pairs_taking_part
from sognet_jax.order.scores import OrderScores
from sognet_jax.predictor import restore_network
from sognet_jax.predictor.relations import relate_instances
from sognet_jax.problems import Problem, raise_if_any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1, with the reason on the console, where something is wrong with its input."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _score(options: argparse.Namespace) -> None:
    predicted, scores, silent = read_order(options.predicted), OrderScores(), OrderScores()
    for image in _images(options, masks=False):
        says = order_matrix(predicted, image)
        scores.add(says, image)
        silent.add(np.zeros_like(says), image)
    metrics, zero = scores.metrics(), silent.metrics()
    print(f'{"":<28}{"predicted":>10}{"O = 0":>10}')
    for name, value in metrics.items():
        form = 'd' if isinstance(value, int) else '.2f'
        print(f'{name:<28}{value:>10{form}}{zero.get(name, math.nan):>10{form}}')
    if options.output:
        rates = {f'{name}_zero': value for name, value in zero.items() if not isinstance(value, int)}
        write_json(options.output, metrics | rates)
        print(f'\n{options.output}')


def _rule(options: argparse.Namespace) -> None:
    _write(options, ((image, follow_rule(options.rule, image).astype(np.float32)) for image in _images(options)))


def _predict(options: argparse.Namespace) -> None:
    choose_eigen()
    config = stored_config(options.checkpoint)
    categories = category_set(config.categories)
    network, variables = restore_network(config, categories, options.checkpoint, relation_head_alone=True)
    named = category_set(options.categories, '--categories') if options.categories else categories
    lost = np.zeros(2, int)

    def relate(image: OrderedImage) -> tuple[OrderedImage, np.ndarray]:
        masks = image.visible if options.masks == 'visible' else image.whole
        pairs = pairs_taking_part(options.pairs, masks, image.visible)
        lost[:] += image.covered[~pairs].sum(), image.covered.sum()
        names = [options.category] * len(masks) if options.category else image.names
        try:
            return image, relate_instances(network, variables, categories, masks, names, pairs)
        except ValueError as error:
            raise ValueError(f'{image.place}: {error}; --category=NAME takes all instances for one') from error

    _write(options, map(relate, _images(options, {category.id: category.name for category in named.all})))
    if lost[1]:
        share = 100 * lost[0] / lost[1]
        print(f'of {lost[1]} true pairs {lost[0]} take no part (--pairs={options.pairs}): {share:.1f} %')


def _write(options: argparse.Namespace, images: Iterable[tuple[OrderedImage, np.ndarray]]) -> None:
    entries = []
    for image, relations in images:
        instances = [{'id': key, 'category': name} for key, name in zip(image.ids.tolist(), image.names, strict=True)]
        entries.append(order_entry(image.file_name, instances, relations))
    write_whole(options.output, f'{{"images": {encode_entries(entries)}}}\n')
    pairs, count = (sum(len(entry[name]) for entry in entries) for name in ('overlaps', 'instances'))
    print(f'{options.output}: {pairs} pairs of {count} instances in {len(entries)} images')


def _images(
    options: argparse.Namespace, names: dict[int, str] | None = None, *, masks: bool = True
) -> Iterator[OrderedImage]:
    """The images that the options mean; an error if anything is wrong with one of them."""
    problems: list[Problem] = []
    if names is not None and options.instances:
        images = read_instances(options.instances, names, options.images, options.least_score, problems)
    elif options.format and options.source:
        images = read_ordered(options.format, options.source, options.splits, problems, Notes(), masks=masks)
    else:
        raise ValueError('--format and --source say what the images and instances are (of predict, also --instances)')
    is_empty = True
    for image in tqdm(images, options.command, unit='image', delay=2):
        is_empty = False
        if not problems:
            yield image
    raise_if_any(problems)
    if is_empty:
        raise ValueError(f'{options.source or options.instances}: has no image')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument('--format', choices=ORDER_FORMATS, help='of the benchmark')
    source.add_argument('--source', type=pathlib.Path, help='its folder')
    source.add_argument('--splits', nargs='+', default=(), help='annotation files, without .json; all that are there')
    score, rule, predict = (commands.add_parser(name, parents=[source]) for name in ('score', 'rule', 'predict'))
    score.add_argument('--predicted', type=pathlib.Path, required=True, help='order.json')
    score.add_argument('--output', type=pathlib.Path, help='JSON file for the scores')
    rule.add_argument('--rule', choices=RULES, required=True, help='what lies on what it touches; none: nothing')
    predict.add_argument('--checkpoint', required=True, help='folder of a run, or one of its checkpoints')
    predict.add_argument('--instances', type=pathlib.Path, help="anybody's: COCO results, or annotations like COCO's")
    predict.add_argument('--images', type=pathlib.Path, help='folder where the images of results have their names')
    predict.add_argument('--categories', help="names of results' categories, a JSON file; the checkpoint's own")
    predict.add_argument('--category', help='take all instances for things of this class')
    predict.add_argument('--least_score', type=float, default=0.5, help='of results that count (0.5)')
    predict.add_argument('--pairs', choices=PAIRS, default=PAIRS[0], help='which pairs take part (related)')
    predict.add_argument('--masks', choices=('whole', 'visible'), default='whole', help='of a benchmark (whole)')
    for command, run in ((score, _score), (rule, _rule), (predict, _predict)):
        command.set_defaults(run=run)
    for command in (rule, predict):
        command.add_argument('--output', type=pathlib.Path, required=True, help='order.json, to be written')
    return parser


if __name__ == '__main__':
    sys.exit(main())
