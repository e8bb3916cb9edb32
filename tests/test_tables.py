"""The tables: every row has its own evaluation, runs go on where they were, the dead are counted, claims are judged."""

import json

import numpy as np
import pytest
import scipy.stats

from benchmarks.tables import run, runs
from benchmarks.tables.claims import CLAIMS, QUESTIONS, judge
from benchmarks.tables.gap import METRICS, Gap
from benchmarks.tables.gap import ROWS as GAP_ROWS
from benchmarks.tables.page import results_page
from benchmarks.tables.rows import CHOICES, CROWDED, NETWORKS, ROWS, STEPS, TABLE_1, TABLE_2, network_config
from sognet_jax.evaluation.summary import FUSIONS
from sognet_jax.inference.prediction import Inference
from sognet_jax.training.objective import build_objective

PIXELS = ('overlap_pixels', 'overlap_pixels_same_class')
NAMES = [
    *('PQ', 'PQ_things', 'PQ_stuff', 'SQ', 'RQ', 'OA', 'OA_true', 'OA_zero', 'pairs_related'),
    *('order_accuracy', 'order_accuracy_true'),
    *('order_accuracy_true_category_rule', 'order_accuracy_true_geometry_rule'),
    *PIXELS,
    *(f'{pixels}/{name}' for pixels in PIXELS for name in FUSIONS),
]


def test_rows_are_experiments_of_their_own():
    seen = {}
    for row in ROWS:
        config = network_config(row.network, 2)
        assert config.seed == 2 and config.train.steps == STEPS
        build_objective(config.objective)
        inference = Inference(**{**config.inference, **row.inference, 'label_prior': 'rules.json'})
        seen.setdefault((row.network, row.evaluation), inference)
        assert seen[row.network, row.evaluation] == inference, 'two evaluations would have one name'
    features = [network_config(row.network, 0).model.relation for row in TABLE_1]
    used = [(one.geometry, one.category, one.appearance) for one in features]
    assert used == [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (1, 1, 1)]
    losses = [network_config(row.network, 0).objective.relation_loss for row in TABLE_1]
    assert losses == ['order_cross_entropy'] * 4 + ['overlap']
    plain = network_config(TABLE_2[0].network, 0).objective.weights
    assert plain.relation == plain.panoptic == 0
    assert network_config(CROWDED[0].network, 0).data.crowded and not network_config(TABLE_2[0].network, 0).data.crowded


def document(network, seed, **values):
    rng = np.random.default_rng(seed)
    metrics = {name: 50 + rng.uniform() for name in NAMES} | values
    evaluations = {row.evaluation: metrics for row in ROWS if row.network == network}
    return {'recipe': run.recipe(network), 'minutes': 6.0, 'evaluations': evaluations}


@pytest.fixture
def fake(monkeypatch):
    """A process that takes notes and writes what a run would; `fails` says with which status one ends instead."""
    notes = {'ran': [], 'fails': {}}

    class Ended:
        def __init__(self, status):
            self.returncode = status

    def started(command, stdout, **_):
        options = dict(part.removeprefix('--').split('=', 1) for part in command if part.startswith('--'))
        name = f'{options["network"]}_{options["seed"]}'
        notes['ran'].append(name)
        if name in notes['fails']:
            stdout.write('step 1\nNotFiniteError: the loss is nan\n')
            return Ended(notes['fails'][name])
        network = next(network for network in NETWORKS if network.name == options['network'])
        with open(options['output'], 'w') as file:
            json.dump(document(network, int(options['seed'])), file)
        return Ended(0)

    monkeypatch.setattr(runs.subprocess, 'run', started)
    return notes


def test_runs_go_on_where_they_were_and_the_dead_are_counted(fake, tmp_path):
    for status in (-9, 75):  # killed; asked to end, when training saves itself and says so by its status
        fake['fails'] = {'shapes_plain_1': 1, 'crowded_sognet_0': status}
        with pytest.raises(SystemExit, match=rf'crowded_sognet, seed 0: ended by a signal \({status}\)'):
            runs.run_all(tmp_path / 'results', tmp_path / 'work', [0, 1])
    del fake['fails']['crowded_sognet_0']
    runs.run_all(tmp_path / 'results', tmp_path / 'work', [0, 1])
    assert len(fake['ran']) == 2 * len(NETWORKS) + 2, 'the one that a signal ended three times'
    runs.run_all(tmp_path / 'results', tmp_path / 'work', [0, 1])
    assert len(fake['ran']) == 2 * len(NETWORKS) + 2
    results = runs.Results(tmp_path / 'results', [0, 1])
    assert results.count == 2 * len(NETWORKS) - 1
    assert results.dead == ['shapes_plain with seed 1 (status 1: NotFiniteError: the loss is nan)']
    assert results.values(TABLE_2[0], 'PQ').keys() == {0} and results.values(TABLE_2[4], 'PQ').keys() == {0, 1}


def test_a_row_that_came_later_is_evaluated_and_the_rest_is_kept(fake, tmp_path):
    runs.run_all(tmp_path / 'results', tmp_path / 'work', [0])
    network = CROWDED[4].network
    file = runs.results_file(tmp_path / 'results', network, 0)
    stored = json.loads(file.read_text())
    del stored['evaluations']['eval_method=panoptic_head']
    file.write_text(json.dumps(stored))
    fake['ran'].clear()
    fake['fails'] = {'crowded_sognet_0': 1}
    with pytest.raises(SystemExit, match=f'{file}: what it lacks cannot be added: NotFiniteError'):
        runs.run_all(tmp_path / 'results', tmp_path / 'work', [0])
    assert json.loads(file.read_text()) == stored
    fake['fails'] = {}
    runs.run_all(tmp_path / 'results', tmp_path / 'work', [0])
    assert fake['ran'] == ['crowded_sognet_0'] * 2
    assert runs.Results(tmp_path / 'results', [0]).values(CROWDED[5], 'PQ').keys() == {0}


@pytest.mark.parametrize('trained', [True, False])
def test_metrics_are_of_one_network(trained, monkeypatch, tmp_path):
    network = CROWDED[0].network
    done = []
    monkeypatch.setattr(run, 'mine', lambda config, file: None)
    monkeypatch.setattr(run, 'latest_step', lambda folder: STEPS if trained else None)
    monkeypatch.setattr(run, 'train', lambda *_, **__: None)
    monkeypatch.setattr(run, '_evaluate', lambda config, inference, *_: done.append(inference) or {'PQ': 40.0})
    file = tmp_path / 'metrics.json'
    stored = document(network, 0)
    del stored['evaluations']['eval_panoptic_head=1']
    file.write_text(json.dumps(stored))
    run.run(network, 0, tmp_path, file)
    found = json.loads(file.read_text())
    if trained:
        assert done == [{'panoptic_head': 1}] and found['minutes'] == stored['minutes']
        kept = dict(stored['evaluations'], **{'eval_panoptic_head=1': {'PQ': 40.0}})
        assert found['evaluations'] == kept
    else:
        assert len(done) == 3 and found['minutes'] == 0
        assert all(metrics == {'PQ': 40.0} for metrics in found['evaluations'].values())


def test_a_network_that_learned_no_order_is_dead(tmp_path):
    network = TABLE_2[4].network
    runs.results_file(tmp_path, network, 0).write_text(json.dumps(document(network, 0, pairs_related=1.0)))
    results = runs.Results(tmp_path, [0])
    assert results.dead == ['shapes_sognet with seed 0 (relates 1.0 % of the pairs)'] and not results.count


def test_results_of_another_recipe_are_refused_and_new_fields_are_not(tmp_path):
    network = TABLE_2[0].network
    file = runs.results_file(tmp_path, network, 0)
    stored = document(network, 0)
    del stored['recipe']['optimizer.learning_rate']
    file.write_text(json.dumps(stored))
    assert runs.Results(tmp_path, [0]).count == 1
    stored['recipe']['train.steps'] = 5
    file.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match='other values of train.steps'):
        runs.Results(tmp_path, [0])


def test_results_of_another_recipe_get_no_rows_of_this_one(fake, tmp_path):
    network = CROWDED[4].network
    file = runs.results_file(tmp_path, network, 0)
    stored = document(network, 0)
    del stored['evaluations']['eval_method=panoptic_head']
    stored['recipe']['optimizer.learning_rate'] = 5.0
    file.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=f'{file}: made with other values of optimizer.learning_rate'):
        runs.run_all(tmp_path, tmp_path / 'work', [0])
    assert not fake['ran'] and json.loads(file.read_text()) == stored


@pytest.mark.parametrize('content', ['{', '{}', '[]'])
def test_a_result_that_is_not_whole_is_named(content, tmp_path):
    file = runs.results_file(tmp_path, NETWORKS[0], 0)
    file.write_text(content)
    with pytest.raises(ValueError, match=str(file)):
        runs.Results(tmp_path, [0])


def test_the_page_has_every_row_and_every_claim(fake, tmp_path):
    runs.run_all(tmp_path / 'results', tmp_path / 'work', [0, 1, 2])
    gaps = [Gap('shapes', seed, {row: dict.fromkeys(METRICS, 60.0 + seed) for row in GAP_ROWS}) for seed in (0, 1)]
    page = results_page(runs.Results(tmp_path / 'results', [0, 1, 2]), gaps, tmp_path / 'figures')
    for row in (*TABLE_1, *TABLE_2, *CHOICES, *CROWDED):
        assert f'| {row.title} | ' in page
    assert all(f'| {title} | ' in page for title in (*FUSIONS.values(), *GAP_ROWS.values()))
    assert all(f'| {claim.text} | ' in page for claim in (*CLAIMS, *QUESTIONS))
    assert 'nan' not in page and '2 seeds |' not in page and '60.5 (60.0 to 61.0)' in page
    for name in ('fusion', 'overlap_pixels', 'claims'):
        assert f'(figures/{name}.png)' in page and (tmp_path / 'figures' / f'{name}.png').is_file()


def test_claims_are_judged_by_the_paired_t_interval(tmp_path):
    claim = CLAIMS[0]
    better = [60.0, 62.0, 61.5, 60.4]
    worse = [58.0, 58.5, 60.0, 58.1]
    for side, values in ((claim.better, better), (claim.worse, worse)):
        for seed, value in enumerate(values):
            file = runs.results_file(tmp_path, side[0].network, seed)
            file.write_text(json.dumps(document(side[0].network, seed, PQ=value)))
    found = judge(claim, runs.Results(tmp_path, range(4)))
    interval = scipy.stats.ttest_rel(better, worse).confidence_interval(0.95)
    assert found.answer == 'holds' and found.seeds == 4
    np.testing.assert_allclose([found.low, found.high], interval, rtol=1e-12)
    two = judge(claim, runs.Results(tmp_path, range(2)))
    assert two.answer == 'undecided' and two.low < 0 < two.high
    # With so many seeds and these mean and spread the interval leaves out 0, with one less it does not.
    spread = np.std([2.0, 3.5], ddof=1)
    half = [scipy.stats.t.ppf(0.975, n - 1) * spread / n**0.5 for n in (two.seeds_needed - 1, two.seeds_needed)]
    assert half[1] < 2.75 <= half[0]
    assert judge(claim, runs.Results(tmp_path, range(1))).answer == 'not run'
