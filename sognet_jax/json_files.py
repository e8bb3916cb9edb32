"""JSON files that others wrote, read into the types of `json_schemas`: what does not fit is named by its path.

What exports do that harms nobody is taken (1.0 for the whole number 1, fields that nothing here uses, a byte order
mark) and noted, so that it can be said once.
"""

import collections
import contextlib
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from sognet_jax.files import read_bytes
from sognet_jax.problems import InputError, Problem

T = TypeVar('T')

Raw = msgspec.Raw | bytes
"""An entry as it stands in a file."""

Notes = collections.Counter[str]
"""What was taken although it is unusual, and how often."""

BYTE_ORDER_MARK = b'\xef\xbb\xbf'

NO_NUMBER = re.compile(rb'(?s)"(?:[^"\\]++|\\.|\\\Z)*+(?:"|\Z)|-?(?:NaN|Infinity)\b')
"""Texts, which stay, be they cut off; and what Python and others write, though JSON has no such numbers."""

BEYOND_ALL = b'1e999'
"""A number that JSON can write and nothing can hold: in a field that is read, it is refused."""

WORDS = {
    'int': 'a whole number', 'float': 'a number', 'str': 'a text', 'array': 'a list', 'bool': 'true or false',
    'object': 'an object', 'null': 'null',
}  # fmt: skip

SHOWN = 1_000_000
"""Bytes of what is read a second time to show what is in a field."""


def said(notes: Notes) -> Iterator[str]:
    """One line for each note."""
    for text, count in notes.items():
        yield f'taken as it is: {text} ({count})'


def read_json(path: str | pathlib.Path, kind: type[T]) -> T:
    """A whole file as a type.

    Raises:
        InputError: it cannot be read, is no JSON, or does not fit the type.
    """
    try:
        content = read_bytes(pathlib.Path(path)).removeprefix(BYTE_ORDER_MARK)
    except ValueError as error:
        raise InputError([Problem('missing file', str(path), str(error), False)]) from error
    try:
        try:
            content.decode()  # msgspec looks into what it reads alone
            _require_once(content, kind)
            return _decode(content, kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return _decode(_only_json(content), kind)
    except msgspec.ValidationError as error:
        raise InputError([Problem('broken JSON', str(path), _fault(error, content), False)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError([Problem('broken JSON', str(path), f'is not valid JSON: {error}', False)]) from error


def read_or_report(path: pathlib.Path, kind: type[T], problems: list[Problem]) -> T | None:
    """As `read_json`, for one file of several: what is wrong with it is added to the problems, and it is None."""
    try:
        return read_json(path, kind)
    except InputError as error:
        problems += error.problems
        return None


def decode_entry(raw: Raw, kind: type[T], notes: Notes, path: str = '') -> T:
    """One entry of a file as a type; `path` says, for the message, where in an entry `raw` is.

    Raises:
        ValueError: it does not fit; the message says which field of it does not.
    """
    try:
        return _decode(raw, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        relaxed = _relaxed(raw)
    try:
        entry = _decode(relaxed, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_fault(error, relaxed, path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'is not valid JSON: {error}') from error
    notes['whole numbers are written like 1.0'] += 1
    return entry


def decode_entries(
    path: pathlib.PurePath, field: str, raws: Iterable[Raw], kind: type[T], problems: list[Problem], notes: Notes
) -> Iterator[tuple[int, T]]:
    """The entries of a list, the `field` of a file, that fit a type, each with its number in it. Those that do not
    are added to the problems, what is unusual to the notes.
    """
    schema: Any = kind
    for index, raw in enumerate(raws):
        try:
            entry = decode_entry(raw, kind, notes)
        except ValueError as error:
            place = f'{path}, {field}[{index}]{_identity(raw)}'
            problems.append(Problem(f'broken entry of {_last_word(field)}', place, str(error)))
            continue
        if index == 0:  # the others have the same fields
            for name in _decode(raw, dict[str, msgspec.Raw]).keys() - _fields(schema):
                notes[f'{path.name}: the field {name!r} of {_last_word(field)} is not used'] += 1
        yield index, entry


@functools.cache
def _fields(kind: Any) -> frozenset[str]:
    return frozenset(item.encode_name for item in msgspec.structs.fields(kind)) | getattr(kind, 'UNUSED', frozenset())


def _last_word(text: str) -> str:
    return text.rpartition(' ')[-1]


def _decode(content: Raw, kind: Any) -> Any:
    return _decoder(kind).decode(content)


_decoder = functools.cache(msgspec.json.Decoder)


def _require_once(content: bytes, kind: Any) -> None:
    """Refuses, by a ValidationError, a field that is there twice: of its values one would be read, without a word."""
    fields = _fields(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else ()
    if any(content.count(b'"%s"' % name.encode()) > 1 for name in fields):
        pairs = json.loads(content, object_pairs_hook=tuple)
        for name, count in collections.Counter(name for name, _ in pairs).items():
            if count > 1:
                raise msgspec.ValidationError(f'Expected a field that is there once, got {count} - at `$.{name}`')


def _only_json(content: bytes) -> bytes:
    """The content with `BEYOND_ALL` for what is no number of JSON."""
    return NO_NUMBER.sub(lambda found: found[0] if found[0].startswith(b'"') else BEYOND_ALL, content)


def _relaxed(raw: Raw) -> bytes:
    """An entry with every 1.0 as 1; as it is where it cannot be read."""

    def whole(text: str) -> float:
        return int(value) if (value := float(text)).is_integer() else value

    try:  # not by msgspec, for which there is no 1e999
        return _only_json(json.dumps(json.loads(bytes(raw), parse_float=whole)).encode())
    except (ValueError, RecursionError):
        return bytes(raw)


def _fault(error: msgspec.ValidationError, content: Raw, path: str = '') -> str:
    """What msgspec says of a field, with what is in it: `iscrowd is "0", expected 0, 1, true or false`."""
    message, _, where = str(error).partition(' - at `$')
    where = where.rstrip('`')
    field = f'{path}{where}'.lstrip('.')
    if missing := re.fullmatch('Object missing required field `(.*)`', message):
        return f'has no field {f"{field}.{missing[1]}".lstrip(".")!r}'
    expected = message.removeprefix('Expected ').partition(', got')[0]
    expected = 'the name of a file in its folder' if 'regex' in message else expected
    expected = '0, 1, true or false' if 'enum' in message or expected == '`bool | int`' else expected
    expected = re.sub(
        '`([a-z| ]+)`', lambda kinds: ' or '.join(map(WORDS.__getitem__, kinds[1].split(' | '))), expected
    )
    if 'out of range' in message:
        return f'{field or "it"} is NaN, infinite or beyond all bounds, expected a number'
    found = ''
    if len(content) < SHOWN:
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            value = json.loads(bytes(content))
            for name, index in re.findall(r'\.([^.[]+)|\[(\d+)\]', where):
                value = value[name or int(index)]
            found = f'is {json.dumps(value, separators=(",", ":")):.60}, '
    return f'{field or "it"} {found}expected {expected}'


def _identity(raw: Raw) -> str:
    """Which image and annotation a broken entry says it is of."""
    try:
        entry = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return ''
    names = {'image_id': 'image', 'id': 'id'} if isinstance(entry, dict) else {}
    return ''.join(f', {names[name]} {entry[name]!r:.40}' for name in names if entry.get(name) is not None)
