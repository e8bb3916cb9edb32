"""The command that says who lies on whom: of benchmarks, of anybody's instances, and how well."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import sognet_jax
from sognet_jax.categories import SHAPES
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.data.sources.shapes.composition import SceneSettings
from sognet_jax.programs.order import main
from tests.support.order_sources import paint, write
from tests.support.runs import save_tiny_network


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_tiny_network(tmp_path_factory.mktemp('run') / 'saved')


@pytest.fixture(scope='module')
def model(checkpoint):
    return sognet_jax.load(checkpoint)


def scene():
    return draw(ShapesSettings(SceneSettings(size=(96, 128), max_instances=9)), 0, 5)


def test_rules_are_scored_beside_silence(tmp_path, capsys):
    rng = np.random.default_rng(0)
    source = write(tmp_path / 'source', 'kins', [paint(rng, 9, 'a.png'), paint(rng, 0, 'b.png')])
    where = ['--format=kins', f'--source={source}']
    order, output = tmp_path / 'order.json', tmp_path / 'metrics.json'
    assert main(['rule', '--rule=larger', *where, f'--output={order}']) == 0
    assert main(['score', *where, f'--predicted={order}', f'--output={output}']) == 0
    metrics = json.loads(output.read_text())
    assert 0 < metrics['pairs_right'] < metrics['pairs'] and metrics['recall_zero'] == 50.0  # an image has no pair
    assert metrics['pairs_accuracy'] == round(100 * metrics['pairs_right'] / metrics['pairs'], 4)
    printed = capsys.readouterr().out
    assert 'O = 0' in printed and f'{"pairs":<28}{metrics["pairs"]:>10}{metrics["pairs"]:>10}' in printed
    entries = json.loads(order.read_text())['images']
    assert [entry['file_name'] for entry in entries] == ['a.png', 'b.png'] and 'layer' in entries[0]['instances'][0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['score', '--predicted=none.json', '--format=kins', '--source=.'], 'none.json: is missing'),
        (['rule', '--rule=lower', '--output=o.json'], '--format and --source say what'),
        (
            ['rule', '--rule=lower', '--output=o.json', '--format=kins', '--source=nowhere'],
            'nowhere: has no annotation',
        ),
        (['predict', '--checkpoint=nowhere', '--instances=a.json', '--output=o.json'], 'nowhere'),
    ],
)
def test_wrong_input_ends_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not list(tmp_path.iterdir())


def test_a_source_without_images_is_refused(tmp_path, capsys):
    source = write(tmp_path / 'source', 'kins', [])
    order = tmp_path / 'order.json'
    assert main(['rule', '--rule=larger', '--format=kins', f'--source={source}', f'--output={order}']) == 1
    assert f'{source}: has no image' in capsys.readouterr().err and not order.exists()


@pytest.mark.compiles
def test_the_head_says_of_anybodys_instances_what_it_says_in_evaluation(model):
    """`model.order` against the relation head on the example that training makes of the same instances."""
    record = scene()
    example = make_example(record, ExampleSettings((96, 128), 96, 128, 12, SHAPES.num_stuff))
    batch = {name: np.asarray(array)[None] for name, array in example.items()}
    expected = model._network.apply(model._variables, batch, method='relate_annotated').matrix[0]
    count = len(record.instances.id)
    masks = [coco_mask.decode(rle) for rle in record.instances.rles]
    names = [SHAPES.things[number].name for number in record.instances.category]
    found = model.order(record.image(), masks, names)
    assert found.shape == (count, count) and example['overlap'].any()
    np.testing.assert_allclose(found, expected[:count, :count], atol=2e-5)
    soft = [mask * 0.9 + 0.05 for mask in masks]  # of torchvision, where they are probabilities
    np.testing.assert_array_equal(model.order(record.image(), soft, names), found)
    everything = model.order(record.image(), masks, names, pairs='all')
    taking_part = example['overlap'][:count, :count].any(axis=1)
    np.testing.assert_array_equal(np.where(np.outer(taking_part, taking_part), everything, 0), found)
    assert (everything > 0).sum() == count * (count - 1) / 2  # one way or the other, Eq. (5)
    permuted = np.arange(count)[::-1]
    turned = model.order(record.image(), [masks[row] for row in permuted], [names[row] for row in permuted])
    np.testing.assert_allclose(turned, found[np.ix_(permuted, permuted)], atol=1e-6)


@pytest.mark.compiles
def test_what_the_head_cannot_take_is_said(model):
    image, mask = np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), bool)
    assert model.order(image, [], []).shape == (0, 0)
    with pytest.raises(ValueError, match=r'a mask is \[9, 8\], the image \[8, 9\]'):
        model.order(image, [mask.T], ['tray'])
    with pytest.raises(ValueError, match="'person' is none of the things of shapes: tray, rug"):
        model.order(image, [mask], ['person'])
    with pytest.raises(ValueError, match='2 masks, but 1 classes'):
        model.order(image, [mask, mask], ['tray'])
    with pytest.raises(ValueError, match='1025 instances, at most 1024'):
        model.order(image, [mask] * 1025, ['tray'] * 1025, pairs='all')


@pytest.mark.compiles
def test_results_of_another_segmenter_need_nothing_else(checkpoint, model, tmp_path, capsys):
    """Torchvision's output as results; the file alone is there, and no image."""
    rng = np.random.default_rng(1)
    masks = rng.uniform(size=(5, 1, 30, 40)) > 0.5
    results = [
        {
            'image_id': 7, 'category_id': SHAPES.things[row % 3].id, 'score': 0.9,
            'segmentation': {**(rle := coco_mask.encode(np.asfortranarray(mask[0], np.uint8))),
                             'counts': rle['counts'].decode()},
        }
        for row, mask in enumerate(masks)
    ]  # fmt: skip
    (tmp_path / 'results.json').write_text(json.dumps(results))
    order = tmp_path / 'order.json'
    options = ['predict', f'--checkpoint={checkpoint}', f'--instances={tmp_path / "results.json"}', f'--output={order}']
    assert main([*options, '--pairs=all']) == 0
    (entry,) = json.loads(order.read_text())['images']
    assert entry['file_name'] == '7' and [item['id'] for item in entry['instances']] == [1, 2, 3, 4, 5]
    names = [SHAPES.things[row % 3].name for row in range(5)]
    relations = model.order(np.zeros((30, 40, 3), np.uint8), masks[:, 0], names, pairs='all')
    expected = {(int(j) + 1, int(i) + 1) for i, j in np.argwhere(relations >= 0.5)}
    assert {(pair['covering'], pair['covered']) for pair in entry['overlaps']} == expected
    results[0]['category_id'] = 999
    (tmp_path / 'results.json').write_text(json.dumps(results))
    assert main(options) == 1
    error = capsys.readouterr().err
    assert "'category 999' is none of the things of" in error and '--category=NAME' in error
    assert main([*options, '--category=tray']) == 0


@pytest.mark.compiles
def test_lost_pairs_are_said(checkpoint, tmp_path, capsys):
    source = write(tmp_path / 'source', 'syntable', [paint(np.random.default_rng(0), 8, 'a.png')])
    options = ['predict', f'--checkpoint={checkpoint}', '--format=syntable', f'--source={source}', '--category=tray']
    assert main([*options, '--masks=visible', f'--output={tmp_path / "o.json"}']) == 0
    assert 'take no part (--pairs=related): 100.0 %' in capsys.readouterr().out  # nothing that is seen overlaps
    assert main([*options, '--pairs=all', f'--output={tmp_path / "o.json"}']) == 0
    assert 'take no part (--pairs=all): 0.0 %' in capsys.readouterr().out
