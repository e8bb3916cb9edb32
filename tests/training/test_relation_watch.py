"""What training says of its relations: shares of pairs, and a warning where they stay silent."""

import math

import pytest

from sognet_jax.training.relation_watch import PairShares, RelationWatch


def shares(related, saturated=0, overlapping=100, ordered=50):
    counts = {
        'overlapping_pairs': overlapping, 'related_pairs': related, 'saturated_pairs': saturated,
        'ordered_pairs': ordered * overlapping // 100, 'rightly_ordered_pairs': related // 2,
    }  # fmt: skip
    return PairShares.of(counts)


def test_shares_are_of_the_pairs_that_they_are_about():
    some = shares(20, saturated=50)
    assert (some.overlapping, some.related, some.saturated, some.order_accuracy) == (100, 20, 50, 20)
    none = shares(0, overlapping=0)
    assert none.overlapping == 0 and math.isnan(none.related) and math.isnan(none.order_accuracy)


def steps_of_warnings(lines, warmup_steps=100, patience=3):
    """The steps at which a watch warns that looks at every 50th, and whether it does so at the end."""
    watch = RelationWatch(warmup_steps, patience)
    warned = [50 * number for number, line in enumerate(lines, start=1) if watch.look(50 * number, line)]
    return warned, bool(watch.warning)


SILENT, SPEAKING, WITHOUT_PAIRS = shares(0), shares(30), shares(0, overlapping=0)


@pytest.mark.parametrize(
    ('lines', 'warned', 'at_the_end'),
    [
        ([SILENT] * 9, [250], True),  # from step 150 on, after the warm-up, three lines
        ([SPEAKING] * 9, [], False),
        ([SILENT] * 4 + [SPEAKING] * 5, [], False),
        ([SPEAKING] * 6 + [SILENT] * 3, [450], True),
        ([SILENT] * 5 + [SPEAKING] + [SILENT] * 3, [250, 450], True),
        ([SILENT] * 5 + [SPEAKING] * 2, [250], False),
        ([WITHOUT_PAIRS] * 9, [], False),
        ([SILENT] * 3 + [WITHOUT_PAIRS] * 3 + [SILENT] * 2, [400], True),
        ([], [], False),
    ],
)
def test_silence_is_said_once_and_again_at_the_end(lines, warned, at_the_end):
    assert steps_of_warnings(lines) == (warned, at_the_end)


@pytest.mark.parametrize(
    ('saturated', 'ordered', 'cause'),
    [(90, 50, 'both potentials are saturated'), (3, 50, 'not grown apart'), (3, 0, 'tell the order of no pair')],
)
def test_the_warning_names_step_and_cause(saturated, ordered, cause):
    watch = RelationWatch(0, 2)
    assert not watch.look(20, shares(0, saturated, ordered=ordered))
    assert watch.look(40, shares(0, saturated, ordered=ordered))
    message = watch.warning
    assert message.startswith('WARNING: step 40: ') and cause in message and 'order_cross_entropy' in message
    assert '\n' not in message
