"""A prompt's texts -> groups of the same answer, by meaning or by words, so that many completions are read as few.

Average linkage over cosine distances of a prompt's distinct texts, of all steps and runs together, so that a group is
the same one at every step and in every run. Embeddings are not stored with a run: by meaning, its texts are encoded
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEANING, WORDS = 0.25, 0.5
"""The mean distance below which groups are joined. By meaning that of sentence-transformers' `community_detection`
(similarity 0.75); by words, texts that share about half of their words and pairs of words, each weighted by how rare it
is among the prompt's texts (tf-idf): what all answers share tells none apart."""

MOST = 3000
"""Texts of a prompt that are linked with one another; rarer ones join the group that is nearest on average."""


def by_words(texts: Sequence[str]) -> list[int]:
    """The group of each text, numbered from 0; most common texts first.

    >>> by_words(["It is 8.", "it  is 8", "A poem about rain"])
    [0, 0, 1]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", ngram_range=(1, 2))
    try:
        return _linked(vectorizer.fit_transform(texts), WORDS)
    except ValueError:  # not one word in any of them
        return [0] * len(texts)


def by_meaning(embedding_ND: NDArray[np.float64]) -> list[int]:
    """The same from their unit embeddings."""
    return _linked(embedding_ND, MEANING)


def _linked(unit_ND: Any, cut: float) -> list[int]:
    """Of unit vectors, an array or a sparse one."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if unit_ND.shape[0] < 2:
        return [0] * unit_ND.shape[0]
    common_MD = unit_ND[:MOST]
    cosine_NM = unit_ND @ common_MD.T
    cosine_NM = cosine_NM.toarray() if hasattr(cosine_NM, "toarray") else cosine_NM
    distance_MM = (1 - cosine_NM[:MOST]).clip(min=0)
    np.fill_diagonal(distance_MM, 0)
    label_M = fcluster(linkage(squareform(distance_MM, checks=False), "average"), cut, "distance") - 1
    member_MG = np.eye(label_M.max() + 1)[label_M]
    nearest_R = (cosine_NM[MOST:] @ (member_MG / member_MG.sum(0))).argmax(1)
    return [*label_M.tolist(), *nearest_R.tolist()]
