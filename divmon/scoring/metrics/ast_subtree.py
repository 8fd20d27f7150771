"""Structural diversity of programs."""

from __future__ import annotations

import ast
import contextlib
import gc
import textwrap
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric

_HEIGHT = 4
_Trees = Counter[int]
"""A program: how often it holds each subtree."""


def pairwise(programs_PK: list[list[str | None]]) -> Tensor:
    """Multiset Jaccard distance of each pair [P, K, K]; NaN where a program does not parse, and on the diagonal."""
    width = max((len(programs) for programs in programs_PK), default=0)
    distance_PKK = torch.full((len(programs_PK), width, width), torch.nan, dtype=torch.float64)
    for distance_KK, trees_K in zip(distance_PKK, _trees(programs_PK), strict=True):
        distance_KK[: len(trees_K), : len(trees_K)] = _distances(trees_K)
    return distance_PKK


@metric(
    "How differently Python programs are built, by syntax subtrees",
    figures={
        "ast_pairwise": Figure(
            "Mean distance of pairs of (correct) programs, by syntax subtrees",
            range=(0, 1),
            rank=100,
            pairwise=True,
            graded=True,
        ),
        "ast_distinct": Figure(
            "Share of syntax subtrees that are distinct, over a prompt's (correct) programs", range=(0, 1), graded=True
        ),
    },
    source="paper, AST",
    pairwise=pairwise,
)
def ast_subtree(programs_PK: list[list[str | None]], correct_PK: Tensor | None = None) -> dict[str, Tensor]:
    """How differently Python programs are built, by syntax subtrees.

    A program is the multiset of its subtrees of height exactly 4 (a leaf is 1). Programs that do not parse are left
    out, and wrong or ungraded ones where some were graded. Formatting and comments do not count, names do.

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
    return {
        "ast_pairwise": torch.tensor([_distances(trees).nanmean() for trees in trees_PK], dtype=torch.float64),
        "ast_distinct": torch.tensor([_distinct(trees) for trees in trees_PK], dtype=torch.float64),
    }


def _distances(trees_K: list[_Trees | None]) -> Tensor:
    """Of each pair [K, K]; NaN where a program is missing, or neither is tall enough to have a subtree."""
    # The j-th copy of a subtree as an element of its own makes sets of multisets: their overlaps are a matrix product.
    column: defaultdict[tuple[int, int], int] = defaultdict(count().__next__)
    places = [
        (k, column[subtree, copy])
        for k, trees in enumerate(trees_K)
        for subtree, copies in (trees or {}).items()
        for copy in range(copies)
    ]
    holds_KT = torch.zeros(len(trees_K), len(column), dtype=torch.float64)
    if places:
        holds_KT[tuple(torch.tensor(places).T)] = 1
    shared_KK = holds_KT @ holds_KT.T
    size_K = shared_KK.diagonal()
    distance_KK = 1 - shared_KK / (size_K[:, None] + size_K - shared_KK)
    missing_K = torch.tensor([trees is None for trees in trees_K], dtype=torch.bool)
    return distance_KK.masked_fill(missing_K | missing_K[:, None], torch.nan).fill_diagonal_(torch.nan)


def _distinct(trees_K: list[_Trees | None]) -> float:
    there = [trees for trees in trees_K if trees is not None]
    total = sum(trees.total() for trees in there)
    return len(set().union(*there)) / total if len(there) >= 2 and total else torch.nan


def _trees(programs_PK: list[list[str | None]]) -> list[list[_Trees | None]]:
    """Each distinct program is parsed once; copies of it share one multiset."""
    distinct = dict.fromkeys(program for programs in programs_PK for program in programs if program is not None)
    known: defaultdict[tuple[Any, ...], int] = defaultdict(count().__next__)
    trees: dict[str | None, _Trees | None] = {program: _subtrees(program, known) for program in distinct}
    return [[trees.get(program) for program in programs] for programs in programs_PK]


def _subtrees(program: str, known: defaultdict[tuple[Any, ...], int]) -> _Trees | None:
    """The multiset of subtrees of height 4, or None where the program does not parse.

    Args:
        known: a number for each subtree seen so far: its node with the numbers of what is below. Equal subtrees have
            one number, without being written out.
    """
    with _no_collection():
        tree = _parse(program) or _parse(textwrap.dedent(program))  # a function's body alone is indented
        if tree is None:
            return None
        nodes: list[ast.AST] = [tree]
        keys: list[list[Any]] = []
        children: list[list[int]] = []
        height: list[int] = []
        for node in nodes:  # parents before children, and no recursion on deep programs
            key: list[Any] = [type(node)]
            below: list[int] = []
            least = 1
            for name in node._fields:
                value = getattr(node, name, None)
                if type(value) is list:
                    key.append(len(value))
                for item in value if type(value) is list else [value]:
                    key.append(type(item))  # 1, 1.0 and True are equal, and not the same
                    if not isinstance(item, ast.AST):
                        key.append(item)
                    elif item._fields:
                        below.append(len(nodes))
                        nodes.append(item)
                    else:  # "load", "+", "pass": a leaf that its type says all about
                        least = 2
            keys.append(key)
            children.append(below)
            height.append(least)
        number = [0] * len(nodes)
        for i in range(len(nodes) - 1, -1, -1):
            if children[i]:
                height[i] = max(height[i], 1 + max([height[child] for child in children[i]]))
            if height[i] <= _HEIGHT:
                number[i] = known[(*keys[i], *[number[child] for child in children[i]])]
        return Counter([number[i] for i, tall in enumerate(height) if tall == _HEIGHT])


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Syntax trees hold no cycles, but so many objects that they set the collector off: most of the time of parsing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _parse(program: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" and the like are the sampled program's own
            return ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes; too deep for the parser
        return None
