"""The tables of the shapes: every row has its own evaluation, runs go on where they were, claims are judged."""

import json

import numpy as np
import pytest

from sognet_jax.evaluation.summary import FUSIONS
from sognet_jax.inference.prediction import Inference
from sognet_jax.programs.tables import runs
from sognet_jax.programs.tables.page import CLAIMS, Claim, results_page, verdict
from sognet_jax.programs.tables.rows import CHOICES, ROWS, STEPS, TABLE_1, TABLE_2, row_config
from sognet_jax.training.objective import build_objective

NAMES = [
    'PQ',
    'PQ_things',
    'PQ_stuff',
    'SQ',
    'RQ',
    'OA',
    'OA_true',
    'OA_zero',
    'order_accuracy',
    'order_accuracy_true',
    'order_accuracy_true_category_rule',
    'order_accuracy_true_geometry_rule',
    *(f'{pixels}/{name}' for pixels in ('overlap_pixels', 'overlap_pixels_same_class') for name in FUSIONS),
]


def test_rows_are_experiments_of_their_own():
    seen = {}
    for row in ROWS:
        config = row_config(row, 2, 'rules.json')
        assert config.seed == 2 and config.train.steps == STEPS
        build_objective(config.objective)
        inference = Inference(**config.inference)
        seen.setdefault((row.variant, row.evaluation), inference)
        assert seen[row.variant, row.evaluation] == inference, 'two evaluations would have one folder'
    features = [row_config(row, 0, 'p').model.relation for row in TABLE_1]
    used = [(one.geometry, one.category, one.appearance) for one in features]
    assert used == [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (1, 1, 1)]
    losses = [row_config(row, 0, 'p').objective.relation_loss for row in TABLE_1]
    assert losses == ['order_cross_entropy'] * 4 + ['overlap']
    plain = row_config(TABLE_2[0], 0, 'p').objective.weights
    assert plain.relation == plain.panoptic == 0


@pytest.fixture
def fake(monkeypatch):
    """Training and evaluation that only take notes."""
    notes = {'trained': [], 'evaluated': [], 'steps': {}}

    def train(config, folder, say):
        notes['trained'].append(folder.name)
        notes['steps'][folder] = config.train.steps

    def evaluate(config, folder, outputs):
        output = outputs.folder
        notes['evaluated'].append(f'{folder.name}/{output.name}')
        if notes.get('interrupted') == len(notes['evaluated']):
            raise KeyboardInterrupt
        output.mkdir(parents=True)
        (output / 'metrics.json').write_text(json.dumps({'PQ': float(len(notes['evaluated']))}))

    monkeypatch.setattr(runs, 'train', train)
    monkeypatch.setattr(runs, 'evaluate', evaluate)
    monkeypatch.setattr(runs, 'latest_step', lambda folder: notes['steps'].get(folder))
    monkeypatch.setattr(runs, 'mine', lambda config, path: path.write_text('{}'))
    monkeypatch.setattr(runs.jax.config, 'update', lambda *_: None)
    return notes


def test_networks_are_trained_once_and_what_is_done_is_not_done_again(fake, tmp_path):
    fake['interrupted'] = 4
    with pytest.raises(KeyboardInterrupt):
        runs.run_all(tmp_path, [0, 1])
    metrics = runs.run_all(tmp_path, [0, 1])
    variants = {row.variant for row in ROWS}
    assert len(fake['trained']) == 2 * len(variants) == len(set(fake['trained']))
    evaluations = {(row.variant, row.evaluation) for row in ROWS}
    assert len(fake['evaluated']) == 2 * len(evaluations) + 1, 'the interrupted one twice'
    assert metrics.keys() == {(row.title, seed) for row in ROWS for seed in (0, 1)}
    assert runs.run_all(tmp_path, [0, 1]) == metrics and len(fake['trained']) == 2 * len(variants)


def test_a_folder_of_another_recipe_is_refused(fake, tmp_path):
    runs.run_all(tmp_path, [0])
    (tmp_path / 'recipe.sha256').write_text('another')
    with pytest.raises(ValueError, match='trained by another recipe'):
        runs.run_all(tmp_path, [0])


def made_up(seeds, **offsets):
    rng = np.random.default_rng(0)
    return {
        (row.title, seed): {name: 50 + offsets.get(row.title, 0) + rng.uniform() for name in NAMES}
        for row in ROWS
        for seed in seeds
    }


def test_the_page_has_every_row_and_every_claim():
    page = results_page(made_up([0, 1, 2]), [0, 1, 2], 98.0, 200)
    for row in (*TABLE_1, *TABLE_2, *CHOICES):
        assert f'| {row.title} | ' in page
    assert all(f'| {title} | ' in page for title in FUSIONS.values())
    assert page.count(' ± ') == 7 * len(TABLE_1) + 5 * (len(TABLE_2) + len(CHOICES)) + 2 * len(FUSIONS)
    without = {key: {name: value for name, value in metrics.items() if 'occlusion_head' not in name}
               for key, metrics in made_up([0]).items()}  # fmt: skip
    assert 'occlusion head' not in results_page(without, [0], 98.0, 200)
    assert page.count('spread') > len(CLAIMS) and 'nan' not in page


def test_claims_are_held_against_the_spread():
    better, worse = TABLE_2[4], TABLE_2[0]
    claim = Claim('more is better', better, worse, 'PQ')
    rows = {(better.title, 0): 60.0, (better.title, 1): 62.0, (worse.title, 0): 50.0, (worse.title, 1): 50.0}
    results = {key: {'PQ': value} for key, value in rows.items()}
    assert verdict(claim, results, [0, 1]) == 'More is better: holds (+11.0 PQ, spread 1.4).'
    turned = Claim('more is better', worse, better, 'PQ')
    assert 'does not hold: it is the other way round (-11.0 PQ' in verdict(turned, results, [0, 1])
    results[worse.title, 1]['PQ'] = 71.0
    assert 'cannot be told from no difference' in verdict(claim, results, [0, 1])
