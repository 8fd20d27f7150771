"""What a mixture's data alone say of the diversity that training on them may leave: candidates, none of them proven.

The optimum of cross-entropy is the mixture's own distribution of completions given a prompt, so that the distance of
two completions of the same or a near prompt (`conditional`) should bound what is left; the others are its rivals.
recipes/composition tests them against the number of teachers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from divmon.training.composition.sources import same_opening

NEIGHBORS = 4
"""Rows of the nearest prompts that a row's completion is compared with."""

UNKNOWN = (
    "how much diversity training on this leaves is not known: no figure of the data alone has been shown to predict it"
    " (recipes/composition)"
)


@dataclass(frozen=True)
class Predictors:
    """Of a sample of a mixture's rows. Distances are 1 minus the cosine of text embeddings."""

    teachers: int
    """Sources."""
    teacher_entropy: float
    """In nats, of the sources' shares of the characters of the completions: 0 of one, log n of n even ones."""
    opening_overlap: float
    """Share of pairs of completions that begin with the same three words."""
    within_source: float
    """Mean distance of two completions of one source, by its share."""
    same_prompt: float
    """Mean distance of two completions of one prompt; NaN where no prompt has two."""
    conditional: float
    """Mean distance of a completion to those of the rows with the `NEIGHBORS` nearest prompts, the same prompt
    included, each weighing as much as its characters."""
    rows: int
    """In the sample."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Encode = Callable[[list[str]], Any]
"""Texts -> unit embeddings [N, D]."""


def predictors(rows: Sequence[tuple[str, str, str]], encode: Encode) -> Predictors:
    """The figures of a sample of rows.

    Args:
        rows: (source, prompt, completion), drawn so that a source has its share, and a prompt all its completions.

    Raises:
        ValueError: there are fewer than two rows.
    """
    import torch

    if len(rows) < 2:
        raise ValueError(f"expected two rows or more, got {len(rows)}")
    sources, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    size = torch.tensor([len(text) for text in completions], dtype=torch.float64).clamp(min=1)
    asked, said = (embedded(texts, encode) for texts in (prompts, completions))
    apart_NN = (1 - said @ said.mT).clamp(min=0)
    near_NN = (asked @ asked.mT).fill_diagonal_(-math.inf)
    nearest_NM = near_NN.topk(min(NEIGHBORS, len(rows) - 1), dim=1).indices
    conditional_N = apart_NN.gather(1, nearest_NM).mean(1)
    share = {name: float(size[[s == name for s in sources]].sum() / size.sum()) for name in dict.fromkeys(sources)}
    within = {name: _mean_pair(apart_NN, [i for i, s in enumerate(sources) if s == name]) for name in share}
    known = {name: value for name, value in within.items() if not math.isnan(value)}
    several = [prompt for prompt, count in Counter(prompts).items() if count > 1]
    groups = {p: [i for i, prompt in enumerate(prompts) if prompt == p] for p in several}
    same = [_mean_pair(apart_NN, group) for group in groups.values()]
    return Predictors(
        teachers=len(share),
        teacher_entropy=-sum(p * math.log(p) for p in share.values()),
        opening_overlap=same_opening(completions),
        within_source=sum(share[n] * v for n, v in known.items()) / sum(share[n] for n in known) if known else math.nan,
        same_prompt=sum(same) / len(same) if same else math.nan,
        conditional=float((conditional_N * size).sum() / size.sum()),
        rows=len(rows),
    )


def embedded(texts: list[str], encode: Encode) -> Any:
    """Each distinct text is read once."""
    distinct = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    return encode(distinct).double().cpu()[[place[text] for text in texts]]


def _mean_pair(apart_NN: Any, of: list[int]) -> float:
    if len(of) < 2:
        return math.nan
    block = apart_NN[of][:, of]
    return float((block.sum() - block.diagonal().sum()) / (len(of) * (len(of) - 1)))
