r"""The relation head trained on some images of a sample with a known order, tested on the others, beside the rules.

    python -m benchmarks.order_samples --syntable=DIR --cocoa=DIR [--steps=100]

SynTable's images are views of scenes, `rgb/SCENE_VIEW.png`: one scene is tested at a time. COCOA's files of one image
are tested one at a time. So every image is tested once, by a head that has not seen it; whole masks go in.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import pathlib
import tempfile

from sognet_jax.configs import order, shapes
from sognet_jax.order.rules import RULES
from sognet_jax.programs.order import main as order_program
from sognet_jax.training.loop import train

FEATURES = {'all': ('geometry', 'appearance'), 'geometry': ('geometry',)}


def _split_by_scene(source: pathlib.Path, folder: pathlib.Path) -> dict[str, list[str]]:
    """Writes an annotation file for each scene; gives the splits that each is tested against."""
    whole = json.loads((source / 'annotations.json').read_text())
    by_scene = collections.defaultdict(list)
    for image in whole['images']:
        by_scene['scene_' + pathlib.Path(image['file_name']).stem.split('_')[0]].append(image)
    for scene, images in by_scene.items():
        ids = {image['id'] for image in images}
        annotations = [entry for entry in whole['annotations'] if entry['image_id'] in ids]
        content = whole | {'images': images, 'annotations': annotations}
        (folder / f'{scene}.json').write_text(json.dumps(content))
    return {scene: [other for other in by_scene if other != scene] for scene in by_scene}


def _link(source: pathlib.Path, folder: pathlib.Path, pattern: str) -> None:
    folder.mkdir()
    for path in source.resolve().glob(pattern):
        (folder / path.name).symlink_to(path)


def _run(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if order_program(arguments):
            raise SystemExit(1)


def _train(
    name: str, source: pathlib.Path, splits: list[str], features: str, steps: int, workdir: pathlib.Path
) -> None:
    config = order.get_config()
    config.model.relation = shapes.get_config().model.relation
    for feature in ('category', 'geometry', 'appearance'):
        config.model.relation[feature] = feature in FEATURES[features]
    config.data.update(name=name, source=str(source), dir=str(workdir.parent / 'data'), max_instances=32)
    config.data.train_split, config.data.eval_split = splits[0], splits[0]
    config.data.also_train_on = tuple((str(source), split) for split in splits[1:])
    config.batch_size = 2
    config.optimizer.update(learning_rate=0.04, warmup_steps=20, drops=(int(0.7 * steps), int(0.9 * steps)))
    config.train.update(steps=steps, eval_every=0, checkpoint_every=steps, log_every=steps)
    train(config, str(workdir), say=lambda line: None, evaluate=None)


def _measure(name: str, source: pathlib.Path, folds: dict[str, list[str]], steps: int, folder: pathlib.Path) -> None:
    where = ('--format', name, '--source', str(source))
    right: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])

    def count(title: str, tested: str) -> None:
        _run('score', *where, '--splits', tested, '--predicted', f'{folder}/o.json', '--output', f'{folder}/m.json')
        metrics = json.loads((folder / 'm.json').read_text())
        right[title][0] += metrics['pairs_right']
        right[title][1] += metrics['pairs']

    for tested, others in folds.items():
        for rule in RULES:
            _run('rule', *where, '--splits', tested, '--rule', rule, '--output', f'{folder}/o.json')
            count(rule, tested)
        for features in FEATURES:
            workdir = folder / f'{tested}_{features}'
            _train(name, source, others, features, steps, workdir)
            for pairs in ('related', 'touching'):
                for seen, split in (('', tested), (', seen in training', others[0])):
                    options = ('--checkpoint', str(workdir), '--pairs', pairs, '--output', f'{folder}/o.json')
                    _run('predict', *where, '--splits', split, *options)
                    count(f'relation head ({features}, {pairs} pairs{seen})', split)
    for title, (hits, total) in right.items():
        print(f'{name:<10}{title:<60}{hits:>4} of {total}')


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--syntable', type=pathlib.Path)
    parser.add_argument('--cocoa', type=pathlib.Path)
    parser.add_argument('--steps', type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if options.syntable:
            _link(options.syntable, folder / 'tables', '[!a]*')
            folds = _split_by_scene(options.syntable, folder / 'tables')
            _measure('syntable', folder / 'tables', folds, options.steps, folder)
        if options.cocoa:
            _link(options.cocoa, folder / 'regions', '*')
            names = sorted(path.stem for path in options.cocoa.glob('*.json'))
            folds = {name: [other for other in names if other != name] for name in names}
            _measure('cocoa', folder / 'regions', folds, options.steps, folder)


if __name__ == '__main__':
    main()
