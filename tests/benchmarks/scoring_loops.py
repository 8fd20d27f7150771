"""The figures of one prompt by plain loops, as usually written, and by packages."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch

VOCABULARY = 50257


def sbert_pairs(vectors: np.ndarray) -> float:
    return float(np.mean([1 - np.dot(a, b) for a, b in combinations(vectors, 2)]))


def sbert_torch_pairs(vectors: torch.Tensor) -> float:
    return float(np.mean([1 - torch.dot(a, b).item() for a, b in combinations(vectors, 2)]))


def sbert_group(vectors: np.ndarray) -> float:
    return float((1 - (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]).mean())


def vendi2_pairs(vectors: np.ndarray) -> float:
    c2 = np.mean([np.dot(a, b) ** 2 for a, b in combinations(vectors, 2)])
    return float(8 / (1 + 7 * c2))


def vendi2_torch_pairs(vectors: torch.Tensor) -> float:
    c2 = np.mean([torch.dot(a, b).item() ** 2 for a, b in combinations(vectors, 2)])
    return float(8 / (1 + 7 * c2))


def vendi1_gram(gram: np.ndarray) -> float:
    eigenvalues = np.linalg.eigvalsh(gram / len(gram))
    eigenvalues = eigenvalues[eigenvalues > 0]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def vendi1_group(vectors: np.ndarray) -> float:
    return vendi1_gram(vectors @ vectors.T)


def vendi4_group(vectors: np.ndarray) -> float:
    gram = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    return float(np.mean([vendi1_gram(gram[np.ix_(four, four)]) for four in combinations(range(len(gram)), 4)]))


def distinct_of_order(texts: list[str], n: int) -> tuple[int, int]:
    grams = []
    for text in texts:
        tokens = text.split()
        grams += [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)), len(grams)


def ead_group(texts: list[str]) -> float:
    total = 0.0
    for n in range(1, 6):
        distinct, drawn = distinct_of_order([text.replace(".", "").replace("\n", "") for text in texts], n)
        if drawn:
            total += min(distinct / (VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** drawn)), 1.0)
    return total / 5


def distinct_group(texts: list[str]) -> float:
    shares = [distinct_of_order(texts, n) for n in range(1, 5)]
    return shares[3][0] / shares[3][1]


def duplicate_pairs(texts: list[str]) -> float:
    return float(np.mean([a.strip() == b.strip() for a, b in combinations(texts, 2)]))


def height(node: ast.AST) -> int:
    return 1 + max(map(height, ast.iter_child_nodes(node)), default=0)


def subtrees(program: str) -> Counter[str]:
    return Counter(ast.dump(node) for node in ast.walk(ast.parse(program)) if height(node) == 4)


def jaccard(a: Counter[str], b: Counter[str]) -> float:
    union = (a | b).total()
    return 1 - (a & b).total() / union if union else float("nan")


def ast_group(programs: list[str]) -> float:
    return float(np.nanmean([jaccard(a, b) for a, b in combinations(map(subtrees, programs), 2)]))


def ast_pairs(programs: list[str]) -> float:
    return float(np.nanmean([jaccard(subtrees(a), subtrees(b)) for a, b in combinations(programs, 2)]))


def self_bleu(texts: list[str]) -> float:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    return float(np.mean([bleu.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)]))


def package_vendi(order: int) -> Callable[[np.ndarray], float]:
    from vendi_score import vendi as package

    # score_X would do the product, but takes every order for 1
    return lambda vectors: float(package.score_K(vectors @ vectors.T, q=order))
