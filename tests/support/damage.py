"""Damage to files, drawn by hypothesis: what people and programs do to JSON, PNG and other files without meaning to."""

import copy
import json

from hypothesis import strategies as st

NASTY = (
    None, True, False, '', '0', 'false', 'a\x00b', '\ud83d', 'x' * 300, '../..', '/', '[' * 2000, 'PQQ1', -1, 0, 1, 2,
    255, 256, 1.0, 0.5, 1e9, -1e9, 1e308, float('nan'), float('inf'), float('-inf'), 2**24, 2**31, 2**63, 2**70, [], {},
    [[]], [None], [0, 0, 0, 0], {'size': [64, 64], 'counts': [4096]}, {'size': [64, 64], 'counts': '0' * 50},
    {'size': [1, 1], 'counts': 'Q2'}, [[1, 1, 2, 2, float('nan'), 3]], [[0, 0, 1e7, 0, 1e7, 1e7]],
    [[0, 0, 63, 0, 63, 63, 0, 63]],
)  # fmt: skip


def places(value, path=()):
    """The paths of everything in a JSON value but itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def damage_json(draw, text):
    """A file of JSON with one to three changes of what it says."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(content))
        if not paths:
            break
        *parents, key = paths[draw(st.integers(0, len(paths) - 1))]
        parent = content
        for step in parents:
            parent = parent[step]
        how = draw(st.sampled_from(('replace', 'replace', 'remove', 'scale', 'text', 'repeat', 'swap', 'rename')))
        value = parent[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if how == 'remove':
            del parent[key]
        elif how == 'scale' and is_number:
            parent[key] = value * draw(st.sampled_from((-1, 0.1, 1 / 64, 2, 10, 1000)))
        elif how == 'text':
            parent[key] = str(value)
        elif how == 'repeat' and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(value))
        elif how == 'swap':
            other = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
            parent[key], parent[other] = parent[other], value
        elif how == 'rename' and isinstance(parent, dict):
            parent[f'{key}_'] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(draw(st.sampled_from(NASTY)))
    return json.dumps(content).encode()


def damage_bytes(draw, content):
    """A file with a few bytes changed, cut off, or with a tail of zeros."""
    how = draw(st.sampled_from(('flip', 'flip', 'cut', 'zeros', 'empty', 'insert')))
    start = draw(st.integers(0, max(len(content) - 1, 0)))
    if how == 'cut':
        return content[:start]
    if how == 'zeros':
        return content[:start] + bytes(len(content) - start)
    if how == 'insert':
        return content[:start] + draw(st.binary(min_size=1, max_size=8)) + content[start:]
    if how == 'empty':
        return b''
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def damages(draw, files):
    """What becomes of some files: `{name: bytes, or None where it is gone}`, of one or two of them.

    Args:
        draw: hypothesis'.
        files: `{name: bytes}`.
    """
    changed = {}
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
        how = draw(st.sampled_from(('content', 'content', 'content', 'bytes', 'gone', 'other')))
        if name.endswith('.json') and how == 'content':
            changed[name] = damage_json(draw, files[name])
        elif how == 'gone':
            changed[name] = None
        elif how == 'other':
            changed[name] = files[draw(st.sampled_from(sorted(files)))]
        else:
            changed[name] = damage_bytes(draw, files[name])
    return changed
