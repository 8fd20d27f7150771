"""How differently a mixture's completions are written, as drawing at a temperature would show it: from the data alone.

Two corrections to `conditional` (predictors.py), each for a fault that recipes/composition showed. What a completion
takes from its prompt (names, things) and its numbers are put aside, so that answers to two prompts differ by how they
are written alone. And sources count by the share that decoding leaves them: at temperature T a share p becomes
p^(1/T), and top-p takes the rare ones out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

TEMPERATURE, TOP_P = 0.6, 0.95
"""The paper's decoding, which is divmon's default."""
NEAREST = 16
"""Rows of the nearest prompts that a row's completion is compared with."""
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Encode = Callable[[list[str]], Any]
"""Texts -> unit embeddings [N, D]."""


def without_content(prompt: str, completion: str) -> str:
    """The completion with `#` for each number and `_` for each other word that the prompt has, in any case."""
    asked = {word.lower() for word in _WORD.findall(prompt)}
    text = _NUMBER.sub("#", completion)
    return _WORD.sub(lambda found: "_" if found.group().lower() in asked else found.group(), text)


def decoded_shares(counts: dict[str, int], temperature: float = 1.0, top_p: float = 1.0) -> dict[str, float]:
    """Source -> its share of what a model draws that has learned the sources in these numbers of rows, exactly.

    A source is taken for one token whose probability is its share; as in decoding, the temperature comes before top-p,
    and the source that takes the sum over `top_p` stays.

    Raises:
        ValueError: the temperature is not above 0, or there is nothing.
    """
    if not counts or temperature <= 0:
        raise ValueError(f"expected sources, and a temperature above 0; got {len(counts)} and {temperature}")
    most = max(counts.values())
    weight = {name: (count / most) ** (1 / temperature) for name, count in counts.items()}
    total, before, kept = sum(weight.values()), 0.0, {}
    for name in sorted(weight, key=lambda name: -weight[name]):
        if before < top_p * total:
            kept[name] = weight[name]
        before += weight[name]
    return {name: value / sum(kept.values()) for name, value in kept.items()}


def form(sources: Sequence[str], asked_ND: Any, said_ND: Any, *, temperature: float = 1.0, top_p: float = 1.0) -> float:
    """Mean distance (1 minus the cosine) of a completion to those of the `NEAREST` nearest prompts, without content.

    Both count by their source's share after decoding; at temperature 1 and top-p 1 all rows count alike.

    Args:
        sources: of each row of a sample in which a source has its share.
        asked_ND: unit float64 embeddings of the prompts [N, D], and `said_ND` of the completions `without_content`.

    Returns:
        NaN where no row that counts has one near it that does.

    Raises:
        ValueError: there are fewer than two rows.
    """
    import torch

    if len(sources) < 2:
        raise ValueError(f"expected two rows or more, got {len(sources)}")
    counts = Counter(sources)
    share = decoded_shares(counts, temperature, top_p)
    weight_N = torch.tensor([share.get(source, 0.0) / counts[source] for source in sources], dtype=torch.float64)
    nearest_NM = nearest(asked_ND, NEAREST)
    apart_NM = (1 - said_ND @ said_ND.mT).clamp(min=0).gather(1, nearest_NM)
    weight_NM = weight_N[:, None] * weight_N[nearest_NM]
    return float((weight_NM * apart_NM).sum() / weight_NM.sum()) if weight_NM.sum() > 0 else math.nan


def nearest(unit_ND: Any, most: int) -> Any:
    """Of each row the numbers of the `most` rows nearest to it [N, M], itself left out."""
    near_NN = (unit_ND @ unit_ND.mT).fill_diagonal_(-math.inf)
    return near_NN.topk(min(most, len(unit_ND) - 1), dim=1).indices


def embedded(texts: Sequence[str], encode: Encode) -> Any:
    """Float64 embeddings [N, D] on the CPU; each distinct text is read once."""
    distinct = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    return encode(distinct).double().cpu()[[place[text] for text in texts]]
