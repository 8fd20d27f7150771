"""A prompt's texts -> groups of the same answer, by meaning or by words, so that many completions are read as few.

Average linkage over cosine distances of a prompt's distinct texts, of all steps and runs together, so that a group is
the same one at every step and in every run. Embeddings are not stored with a run: by meaning, its texts are encoded
again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MEANING, WORDS = 0.25, 0.5
"""The mean distance below which groups are joined. By meaning that of sentence-transformers' `community_detection`
(similarity 0.75); by words, texts that share about half of their words and pairs of words, each weighted by how rare it
is among the prompt's texts (tf-idf): what all answers share tells none apart."""

MOST = 3000
"""Texts of a prompt that are linked with one another; rarer ones join the group whose mean is nearest."""

FEW = 2000
"""Texts up to which "auto" encodes them again without a GPU: about a minute."""


def by_words(texts: Sequence[str]) -> list[int]:
    """The group of each text, numbered from 0; most common texts first.

    >>> by_words(["It is 8.", "it  is 8", "A poem about rain"])
    [0, 0, 1]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", ngram_range=(1, 2))
    try:
        weight_ND = vectorizer.fit_transform(texts).toarray()
    except ValueError:  # not one word in any of them
        return [0] * len(texts)
    return _linked(weight_ND, WORDS)


def by_meaning(embedding_ND: ArrayLike) -> list[int]:
    """The same from their embeddings."""
    return _linked(np.asarray(embedding_ND, dtype=np.float64), MEANING)


def _linked(vector_ND: NDArray[np.float64], cut: float) -> list[int]:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    length_N = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    unit_ND = vector_ND / np.where(length_N > 0, length_N, 1.0)  # an empty text is like no other
    if len(unit_ND) < 2:
        return [0] * len(unit_ND)
    common_MD, rare_RD = unit_ND[:MOST], unit_ND[MOST:]
    distance_MM = (1 - common_MD @ common_MD.T).clip(min=0)
    np.fill_diagonal(distance_MM, 0)
    label_M = fcluster(linkage(squareform(distance_MM, checks=False), "average"), cut, "distance") - 1
    if not len(rare_RD):
        return label_M.tolist()
    mean_GD = np.stack([common_MD[label_M == g].mean(0) for g in range(label_M.max() + 1)])
    return [*label_M.tolist(), *(rare_RD @ mean_GD.T).argmax(1).tolist()]
