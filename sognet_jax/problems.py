"""What is wrong with the files that somebody gives us: found one by one, reported together."""

import collections
import dataclasses
from collections.abc import Sequence

LISTED_OF_A_KIND = 5
"""So many problems of one kind are listed by an error; a report file lists all."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One fault in the files: a few words that are the same for all of its kind; its place, the file and, within it,
    image, annotation or segment; what is there, and what was expected; and whether leaving out one image, or one
    annotation, is a way out.
    """

    kind: str
    place: str
    text: str
    is_local: bool = True

    def __str__(self) -> str:
        return f'{self.place}: {self.text}'


class Fault(ValueError):
    """One thing that is wrong, for a caller that knows the file."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class InputError(ValueError):
    """Files cannot be used; the message names the file and the place in it of each fault, and `hint` says what can be
    done.
    """

    def __init__(self, problems: Sequence[Problem], hint: str = '') -> None:
        self.problems, self.hint = tuple(problems), hint
        listed = report(self.problems, LISTED_OF_A_KIND)
        super().__init__(f'{listed}\n{hint}' if hint else listed)

    def __reduce__(self) -> tuple:  # exceptions that come from other processes are pickled by their arguments
        return type(self), (self.problems, self.hint)


def raise_if_any(problems: Sequence[Problem]) -> None:
    """Raises them together, if there are any."""
    if problems:
        raise InputError(problems)


def report(problems: Sequence[Problem], limit: int | None = None) -> str:
    """All problems, by kind; at most `limit` of each kind, and how many more there are.

    A single problem is its own line, without a heading.
    """
    if len(problems) == 1:
        return str(problems[0])
    by_kind: dict[str, list[Problem]] = collections.defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    lines = [f'{len(problems)} problems:']
    for kind, members in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        lines.append(f'{kind} ({len(members)})')
        lines += [f'  {problem}' for problem in members[:limit]]
        if limit is not None and len(members) > limit:
            lines.append(f'  ... and {len(members) - limit} more')
    return '\n'.join(lines)
