"""Structural diversity of programs."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections import Counter
from itertools import combinations

import torch
from torch import Tensor

_HEIGHT = 4


def ast_subtree(programs_PK: list[list[str | None]], correct_PK: Tensor | None = None) -> dict[str, Tensor]:
    """How differently Python programs are built, by syntax subtrees | 0 to 1, higher is more diverse | paper, AST

    A program is the multiset of its subtrees of height exactly 4 (a leaf is 1). Programs that do not parse are left
    out, and wrong or unjudged ones where verdicts exist. Formatting and comments do not count, names do.

    Returns:
        `ast_pairwise` [P]: mean over pairs of the multiset Jaccard distance, which is unbiased for every number of
        programs. `ast_distinct` [P]: distinct over all subtrees in the pool. NaN with fewer than two programs.

    >>> ast_subtree([["print(1 + 2)", "print(1+2)  # sum"], ["x = [1, 2]", "pass"]])["ast_pairwise"]
    tensor([0., 1.], dtype=torch.float64)
    """
    trees_PK = _trees(programs_PK)
    if correct_PK is not None:
        for trees, right in zip(trees_PK, correct_PK.tolist(), strict=True):
            trees[:] = [tree if is_right else None for tree, is_right in zip(trees, right, strict=True)]
    there_P = [[tree for tree in trees if tree is not None] for trees in trees_PK]
    return {
        "ast_pairwise": torch.tensor([_mean_distance(trees) for trees in there_P], dtype=torch.float64),
        "ast_distinct": torch.tensor([_distinct(trees) for trees in there_P], dtype=torch.float64),
    }


def pairwise(programs_PK: list[list[str | None]]) -> Tensor:
    """Multiset Jaccard distance of each pair [P, K, K]; NaN where a program does not parse, and on the diagonal."""
    width = max((len(programs) for programs in programs_PK), default=0)
    distance_PKK = torch.full((len(programs_PK), width, width), torch.nan, dtype=torch.float64)
    for p, trees in enumerate(_trees(programs_PK)):
        for (i, a), (j, b) in combinations(((k, tree) for k, tree in enumerate(trees) if tree is not None), 2):
            distance_PKK[p, i, j] = distance_PKK[p, j, i] = _distance(a, b)
    return distance_PKK


def _mean_distance(trees: list[Counter[str]]) -> float:
    distances = [d for a, b in combinations(trees, 2) if (d := _distance(a, b)) == d]
    return sum(distances) / len(distances) if distances else torch.nan


def _distinct(trees: list[Counter[str]]) -> float:
    pool = sum(trees, Counter())
    return len(pool) / pool.total() if len(trees) >= 2 and pool else torch.nan


def _distance(a: Counter[str], b: Counter[str]) -> float:
    """NaN where neither program is tall enough to have a subtree."""
    if a is b:
        return 0.0 if a else torch.nan
    shared = (a & b).total()
    union = a.total() + b.total() - shared
    return 1 - shared / union if union else torch.nan


def _trees(programs_PK: list[list[str | None]]) -> list[list[Counter[str] | None]]:
    """Each distinct program is parsed once; copies of it share one multiset."""
    distinct = {program for programs in programs_PK for program in programs if program is not None}
    trees = {program: _subtrees(program) for program in distinct}
    return [[None if program is None else trees[program] for program in programs] for programs in programs_PK]


def _subtrees(program: str) -> Counter[str] | None:
    """The multiset of subtrees of height 4, or None where the program does not parse."""
    tree = _parse(program) or _parse(textwrap.dedent(program))  # a function's body alone is indented
    if tree is None:
        return None
    height: dict[ast.AST, int] = {}
    for node in reversed(list(ast.walk(tree))):  # children before parents, and no recursion on deep programs
        height[node] = 1 + max((height[child] for child in ast.iter_child_nodes(node)), default=0)
    return Counter(ast.dump(node) for node, tall in height.items() if tall == _HEIGHT)


def _parse(program: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" and the like are the sampled program's own
            return ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes; too deep for the parser
        return None
