"""Which way an answer is reached, and not how it is worded: steps of a calculation, or the build of a program."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Hashable

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, effective_number, metric

_NUMBER = r"[-\u2212]?[$\u20ac\u00a3]?\d[\d,]*(?:\.\d+)?%?"
_STEP = re.compile(rf"({_NUMBER})((?:\s*[-+*/\u00d7\u00f7\u2212x^]\s*{_NUMBER})+)\s*=\s*({_NUMBER})")
_OPERATION = re.compile(rf"\s*([-+*/\u00d7\u00f7\u2212x^])\s*({_NUMBER})")
_SIGNS = {"\u00d7": "*", "x": "*", "\u00f7": "/", "\u2212": "-"}
Approach = tuple[Hashable, ...] | frozenset[tuple[tuple[str, str], int]]
"""Steps in order; or, of a program, (pair of node types, how often)."""


def pairwise(prose_PK: list[list[str | None]], programs_PK: list[list[str | None]]) -> Tensor:
    """Distance of each pair [P, K, K]; NaN where one shows no approach, and on the diagonal."""
    approaches = _approaches(prose_PK, programs_PK)
    width = max((len(row) for row in approaches), default=0)
    distance_PKK = torch.full((len(approaches), width, width), torch.nan, dtype=torch.float64)
    for distance_KK, row in zip(distance_PKK, approaches, strict=True):
        known: dict[tuple[Approach, Approach], float] = {}
        for (i, one), (j, other) in itertools.combinations(enumerate(row), 2):
            if one is not None and other is not None:
                key = (one, other)
                known[key] = distance_KK[i, j] = distance_KK[j, i] = known.get(key, _distance(one, other))
    return distance_PKK


@metric(
    "How differently (correct) answers are reached: the steps of a calculation, the build of a program",
    figures={
        "approach": Figure(
            "Mean distance of pairs of (correct) answers by their steps",
            range=(0, 1),
            graded=True,
            rank=110,
            pairwise=True,
        ),
        "approaches": Figure(
            "Effective number of approaches among 8 (correct) answers, of order 2",
            range=(1, 8),
            graded=True,
            rank=112,
            aggregate="harmonic_mean",
        ),
    },
    source="ours; the question of arXiv:2606.29985",
    all_samples=True,
    pairwise=pairwise,
)
def approach(
    prose_PK: list[list[str | None]], programs_PK: list[list[str | None]], correct_PK: Tensor | None = None
) -> dict[str, Tensor]:
    """How differently (correct) answers are reached: the steps of a calculation, the build of a program.

    Of text with neither equations nor Python it is undefined: there `judge_clusters` has a language model tell
    approaches apart. Of prose, the steps are its equations "a + b = c" in order, each as its operation, operands (of
    + and * in any order) and result; of a program, which types of syntax nodes hold which, how often, without names
    and values. So another wording of the same steps is the same approach. Two approaches lie 1 - 2 L / (m + n) apart,
    with L the longest common subsequence of m and n steps, or the overlap of two programs' multisets. Texts that show
    none are left out, and wrong or ungraded ones where some were graded.

    Returns:
        `approach` [P]: mean over pairs, which is unbiased for every number of samples. `approaches` [P]: with C the
        share of pairs whose steps are all the same, 8 / (1 + 7 C). NaN with fewer than two that show their steps.

    >>> same = approach([["3 + 4 = 7. So 7.", "She adds: 4+3=7"], ["2 * 3 = 6", "2 + 2 = 4, 4 + 2 = 6"]], [[], []])
    >>> same["approach"]
    tensor([0., 1.], dtype=torch.float64)
    """
    rows = _approaches(prose_PK, programs_PK)
    if correct_PK is not None:
        graded = zip(rows, correct_PK.tolist(), strict=True)
        rows = [[one if right else None for one, right in zip(row, rights, strict=True)] for row, rights in graded]
    means, numbers = [], []
    for row in rows:
        size = Counter(one for one in row if one is not None)
        n = size.total()
        pairs = n * (n - 1) / 2
        apart = sum(size[a] * size[b] * _distance(a, b) for a, b in itertools.combinations(size, 2))
        means.append(apart / pairs if n >= 2 else torch.nan)
        numbers.append(effective_number(row))
    return {
        "approach": torch.tensor(means, dtype=torch.float64),
        "approaches": torch.tensor(numbers, dtype=torch.float64),
    }


def _approaches(prose_PK: list[list[str | None]], programs_PK: list[list[str | None]]) -> list[list[Approach | None]]:
    """Of prose where there is some, else of the program; None where a text shows no steps."""
    texts = {text for row in prose_PK for text in row if text is not None}
    programs = {text for row in programs_PK for text in row if text is not None}
    steps = {text: steps_of(text) or None for text in texts}
    built = {text: _build(text) for text in programs}
    rows = []
    nothing: list[str | None] = []
    for prose, code in itertools.zip_longest(prose_PK, programs_PK, fillvalue=nothing):
        both = itertools.zip_longest(prose, code)
        rows.append([steps.get(one or "") or built.get(other or "") for one, other in both])
    return rows


def steps_of(text: str) -> Approach:
    """The equations of a text in order.

    >>> steps_of("3 apples and 4 make 3 + 4 = 7; at $2 each that is 7 x 2 = $14.")
    (('+', ('3', '4'), '7'), ('*', ('2', '7'), '14'))
    """
    found = []
    for match in _STEP.finditer(text.replace("<<", " ").replace(">>", " ")):
        first, rest, result = match.groups()
        operations = [(_SIGNS.get(sign, sign), _plain(number)) for sign, number in _OPERATION.findall(rest)]
        signs = tuple(sign for sign, _ in operations)
        operands = (_plain(first), *(number for _, number in operations))
        if set(signs) in ({"+"}, {"*"}):
            operands = tuple(sorted(operands))
        found.append(("".join(signs), operands, _plain(result)))
    return tuple(found)


def _plain(number: str) -> str:
    digits = re.sub(r"[,$\u20ac\u00a3%]", "", number).replace("\u2212", "-")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _build(program: str) -> Approach | None:
    """How often which type of node holds which in a program; None where it does not parse."""
    for text in (program, textwrap.dedent(program)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        edges = Counter(
            (type(node).__name__, type(child).__name__)
            for node in ast.walk(tree)
            for child in ast.iter_child_nodes(node)
        )
        return frozenset(edges.items()) or None
    return None


def _distance(one: Approach, other: Approach) -> float:
    """1 - 2 L / (m + n), with L what two sequences of m and n steps, or two multisets of pairs, have in common."""
    if one == other:
        return 0.0
    if isinstance(one, frozenset) or isinstance(other, frozenset):
        if not (isinstance(one, frozenset) and isinstance(other, frozenset)):
            return 1.0  # a calculation and a program
        edges, others = (Counter(dict(counted)) for counted in (one, other))
        return 1 - 2 * (edges & others).total() / (edges.total() + others.total())
    row = [0] * (len(other) + 1)
    for a in one:
        before = 0
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if a == b else max(row[j], row[j - 1])
    return 1 - 2 * row[-1] / (len(one) + len(other))
