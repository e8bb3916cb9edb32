"""What a data set holds, in numbers: annotations, instances, classes, sizes, and who covers whom."""

import dataclasses
from typing import Any

import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.data.examples.transforms import ExampleSettings, oriented, resize_factor
from sognet_jax.data.records.overlap_file import STATES, pair_states
from sognet_jax.data.records.relations import rle_areas
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import Records

SMALL, MEDIUM = 32, 96
"""Square roots of the mask areas, in pixels of the original image, that part small, medium and large (as COCO does)."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is counted, over the n images of a data set."""

    sizes: np.ndarray  # `[n, 2]` height and width
    # `[n]` bool
    has_instances: np.ndarray
    has_panoptic: np.ndarray
    # `[n]` how many instances an image has, and how many regions of crowd
    instances: np.ndarray
    crowds: np.ndarray
    instance_classes: np.ndarray  # `[m]` thing class 0 .. T-1 of every instance, crowd left out
    instance_areas: np.ndarray  # `[m]` their mask areas in pixels of the original image
    segment_classes: np.ndarray  # `[s]` semantic train id of every panoptic segment, crowd included
    image_classes: np.ndarray  # `[u]` semantic train ids: each image's classes once, of its segments
    pair_states: np.ndarray  # `[p]` of every pair with R = 1 (Eq. 11) its state, an index into `overlap_file.STATES`
    # `[p]` R* and the true order, as in `schema.Pairs`
    covered: np.ndarray
    truly_covered: np.ndarray
    by_pixels: np.ndarray  # `[p]` the same by which of the two has fewer pixels of the intersection in the panoptic map


def statistics(source: Records) -> Statistics:
    """Counts what the records of a data set hold, at least one (or ValueError); shows how long that takes."""
    if not len(source):
        raise ValueError('there are no images to count')
    rows = [_count(source[index]) for index in tqdm(range(len(source)), desc='count', unit='image', mininterval=1)]
    names = [field.name for field in dataclasses.fields(Statistics)]
    return Statistics(**{name: np.concatenate([row[name] for row in rows]) for name in names})


def _count(record: Record) -> dict[str, np.ndarray]:
    """The attributes of `Statistics` for one image."""
    instances, pairs = record.instances, record.pairs
    real = ~instances.crowd
    areas = rle_areas(instances.rles)
    states = [STATES.index(state) for state in pair_states(record)]
    difference = np.sign(pairs.first_pixels - pairs.second_pixels)
    return {
        'sizes': np.array([record.size]),
        'has_instances': np.array([record.has_instances]),
        'has_panoptic': np.array([record.has_panoptic]),
        'instances': np.array([np.count_nonzero(real)]),
        'crowds': np.array([np.count_nonzero(instances.crowd)]),
        'instance_classes': instances.category[real],
        'instance_areas': areas[real],
        'segment_classes': record.segments.category,
        'image_classes': np.unique(record.segments.category),
        'pair_states': np.array(states, np.int8),
        'covered': pairs.covered,
        'truly_covered': pairs.truly_covered,
        'by_pixels': np.array([0, -1, 1], np.int8)[difference + 1],
    }


def summary(found: Statistics, categories: CategorySet, settings: ExampleSettings) -> dict[str, Any]:
    """The statistics as numbers for a JSON file; null where there is nothing to take a mean or a share of."""
    stuff = categories.num_stuff
    counted = {
        'instances': stuff + found.instance_classes,
        'segments': found.segment_classes,
        'images': found.image_classes,
    }
    counted = {unit: np.bincount(ids, minlength=categories.num_classes) for unit, ids in counted.items()}
    classes = [
        (category.name, {unit: int(counts[train_id]) for unit, counts in counted.items()})
        for train_id, category in enumerate(categories.all)
    ]
    return {
        'images': _images(found, settings),
        'instances': _instances(found, settings.max_instances),
        'pairs': _pairs(found),
        'things': dict(classes[stuff:]),
        'stuff': {name: {unit: counts[unit] for unit in ('images', 'segments')} for name, counts in classes[:stuff]},
    }


def resize_factors(found: Statistics, settings: ExampleSettings) -> np.ndarray:
    """`[n]` resized over original of each image, without augmentation."""
    sizes, inverse = np.unique(found.sizes, axis=0, return_inverse=True)
    factors = [resize_factor(size, oriented(settings, size)) for size in map(tuple, sizes.tolist())]
    return np.array(factors)[inverse.reshape(-1)]


def undecided_by_state(found: Statistics) -> dict[str, int]:
    """How many pairs have no known order (R*), by what the panoptic map says of them."""
    counts = np.bincount(found.pair_states[found.covered < 0], minlength=len(STATES))
    return dict(zip(STATES, counts.tolist(), strict=True))


def _images(found: Statistics, settings: ExampleSettings) -> dict[str, Any]:
    heights, widths = found.sizes.T
    factors = resize_factors(found, settings)
    return {
        'all': len(found.sizes),
        'with_instances': int(found.has_instances.sum()),
        'with_panoptic': int(found.has_panoptic.sum()),
        'with_both': int((found.has_instances & found.has_panoptic).sum()),
        'landscape': int((widths > heights).sum()),
        'square': int((widths == heights).sum()),
        'portrait': int((widths < heights).sum()),
        'height': _spread(heights),
        'width': _spread(widths),
        'scale': _spread(factors),
        'enlarged': int((factors > 1).sum()),
    }


def _instances(found: Statistics, max_instances: int) -> dict[str, Any]:
    roots = np.sqrt(found.instance_areas)
    wanted = found.instances + found.crowds  # crowd regions take a slot each
    return {
        'all': int(found.instances.sum()),
        'crowd': int(found.crowds.sum()),
        'per_image': _spread(found.instances[found.has_instances]),
        'without_any': int((found.instances[found.has_instances] == 0).sum()),
        'max_instances': max_instances,
        'images_beyond_max_instances': int((wanted > max_instances).sum()),
        'dropped': int(np.maximum(wanted - max_instances, 0).sum()),
        'small': int((roots < SMALL).sum()),
        'medium': int(((roots >= SMALL) & (roots < MEDIUM)).sum()),
        'large': int((roots >= MEDIUM).sum()),
    }


def _pairs(found: Statistics) -> dict[str, Any]:
    states = np.bincount(found.pair_states, minlength=len(STATES))
    return {
        'overlapping': len(found.covered),
        'decided': int((found.covered >= 0).sum()),
        'undecided': undecided_by_state(found),
        'states': dict(zip(STATES, states.tolist(), strict=True)),
        'truly_known': int((found.truly_covered >= 0).sum()),
        'agreement_with_pixels': _agreement(found.covered, found.by_pixels),
        'agreement_with_true_order': _agreement(found.covered, found.truly_covered),
    }


def _agreement(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How many pairs have both orders, and the share of them where they are the same."""
    known = (first >= 0) & (second >= 0)
    share = float((first == second)[known].mean()) if known.any() else None
    return {'pairs': int(known.sum()), 'share': share}


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return dict.fromkeys(('least', 'median', 'mean', 'greatest'))
    numbers = (values.min(), np.median(values), values.mean(), values.max())
    return dict(zip(('least', 'median', 'mean', 'greatest'), (round(float(n), 4) for n in numbers), strict=True))


def table(numbers: dict[str, Any], columns: int = 3) -> str:
    """The numbers of `summary` as aligned text; classes that do not occur are left out."""
    images, instances, pairs = numbers['images'], numbers['instances'], numbers['pairs']
    lines = [
        _row('images', images['all']),
        _row('  with instances', images['with_instances']),
        _row('  with panoptic', images['with_panoptic']),
        _row('  with both', images['with_both']),
        _row('landscape, square, portrait', *(images[name] for name in ('landscape', 'square', 'portrait'))),
        '',
        f'{"":<34}   least  median    mean  greatest',
        _spread_row('height', images['height'], '{:8.1f}'),
        _spread_row('width', images['width'], '{:8.1f}'),
        _spread_row('scale to the network input', images['scale'], '{:8.3f}'),
        _spread_row('instances of an image', instances['per_image'], '{:8.1f}'),
        '',
        _row('instances', instances['all']),
        _row(f'  small (below {SMALL} x {SMALL})', instances['small']),
        _row(f'  medium (below {MEDIUM} x {MEDIUM})', instances['medium']),
        _row('  large', instances['large']),
        _row('crowd regions', instances['crowd']),
        _row('images annotated to have none', instances['without_any']),
        _row(f'images with more than {instances["max_instances"]}', instances['images_beyond_max_instances']),
        _row('  instances dropped there', instances['dropped']),
        '',
        _row('overlapping pairs (R)', pairs['overlapping']),
        _row('  decided (R*)', pairs['decided']),
        *(_row(f'  undecided: {state}', count) for state, count in pairs['undecided'].items() if count),
        _row('  true order known', pairs['truly_known']),
        _share_row('R* is the order by pixels', pairs['agreement_with_pixels']),
        _share_row('R* is the true order', pairs['agreement_with_true_order']),
    ]
    for group, unit in (('things', 'instances'), ('stuff', 'images')):
        classes = sorted(numbers[group].items(), key=lambda item: -item[1][unit])
        cells = [
            f'{name:<18.18}{counts[unit]:8d}{counts["segments"]:8d}' for name, counts in classes if any(counts.values())
        ]
        lines += ['', f'{group}: {unit} and segments of each class ({len(cells)} of {len(classes)} occur)']
        lines += ['   '.join(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return '\n'.join(lines)


def _row(title: str, *counts: int) -> str:
    return f'{title:<34}' + ''.join(f'{count:8d}' for count in counts)


def _spread_row(title: str, values: dict[str, float | None], form: str) -> str:
    return f'{title:<34}' + ''.join('       -' if value is None else form.format(value) for value in values.values())


def _share_row(title: str, agreement: dict[str, Any]) -> str:
    if agreement['share'] is None:
        return f'{title:<34}       -'
    return f'{title:<34}{100 * agreement["share"]:8.1f} % of {agreement["pairs"]}'
