"""Diversity across prompts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from divmon.scoring.metrics import Figure, metric, words

_MAX_N = 5
_TIE = 1e-6  # cosines closer than float32 embeddings can tell apart
_BLOCK = 1 << 20  # cosines at a time: 4 MB, and as much again a few times for what is made of them
_STEP, _REACH = 0.5, 38.0  # of the integral over log t: both its errors are below float64's rounding


def leave_one_out(
    texts_PK: list[list[str | None]], embeddings_PKD: Tensor, mask_PK: Tensor, vocab_size: int = 50257
) -> dict[str, Tensor]:
    """The figures [P] without each prompt in turn, in one pass; `traced` is NaN for a prompt that it is not taken over.

    `traced_chance` has none: it is a constant of the design.
    """
    gram_PP, answered_P, enough_P = _gram(embeddings_PKD, mask_PK), mask_PK.any(1), mask_PK.sum(1) >= 2
    seen_O, drawn_OP, alone_OP = _ngrams(texts_PK)
    n_P, tracing_P = (there_P.sum() - there_P.double() for there_P in (answered_P, enough_P))
    sum_P = gram_PP.sum() - 2 * gram_PP.sum(1) + gram_PP.diagonal()
    ead_P = _ead(seen_O[:, None] - alone_OP, drawn_OP.sum(1, keepdim=True) - drawn_OP, vocab_size).to(n_P.device)
    traced_P = _traced_without(embeddings_PKD, mask_PK).where(enough_P & (tracing_P >= 2), torch.nan)
    return {
        "across_ead": ead_P.where(n_P >= 2, torch.nan),
        "across_sbert": (1 - (sum_P - n_P) / (n_P * (n_P - 1))).where(n_P >= 2, torch.nan),
        "across_vendi": _vendi_without(gram_PP, n_P).where(n_P >= 2, torch.nan),
        "traced": traced_P,
        "traced_nats": _nats(traced_P, tracing_P),
    }


@metric(
    "Diversity between prompts, and whether answers can be traced to theirs",
    figures={
        "across_ead": Figure("Share of distinct n-grams over the first answer of each prompt", range=(0, 1)),
        "across_sbert": Figure("Mean cosine distance between the first answers of prompts", range=(0, 2)),
        "across_vendi": Figure("Effective number of distinct first answers of prompts", range=(1, "P")),
        "traced": Figure("Share of answers nearest to their own prompt's answers", range=(0, 1)),
        "traced_nats": Figure(
            "Least mutual information of prompt and answer that this share allows, nats: 0 by chance", range=(0, None)
        ),
        "traced_chance": Figure("The same by chance: 1 over the number of prompts", range=(0, 0.5), diverse=""),
    },
    source="paper",
    across_prompts=True,
    leave_one_out=leave_one_out,
)
def across(
    texts_PK: list[list[str | None]], embeddings_PKD: Tensor, mask_PK: Tensor, vocab_size: int = 50257
) -> dict[str, Tensor]:
    """Diversity between prompts, and whether answers can be traced to theirs.

    Within a prompt answers may stay apart while the answers to all prompts become one style. `across_*` take the first
    answer of each prompt as one set. For tracing, each answer is compared by cosine with the mean embedding of every
    prompt's answers, its own prompt's without itself.

    Returns:
        0-d figures, NaN below two prompts. `across_ead`, `across_sbert`, `across_vendi`: as ead, sbert and vendi; Vendi
        goes up to the number of prompts. `traced`: share of answers nearest to their own prompt,
        0 to 1, over prompts with two or more; ties are shared. `traced_chance`: 1 over the number P of those prompts.
        `traced_nats`: Fano's bound (1961) on the mutual information I(prompt; answer) of P prompts traced at a share a,
        log P + a log a + (1 - a) log((1 - a) / (P - 1)): 0 at and below chance, log P where all are traced. The share
        says less the more prompts there are; nats are comparable.

    >>> e = torch.eye(2)[[0, 0, 1, 1]].reshape(2, 2, 2)
    >>> across([["a", "a"], ["b", "b"]], e, torch.ones(2, 2, dtype=torch.bool))["traced"]
    tensor(1., dtype=torch.float64)
    """
    gram_PP, n = _gram(embeddings_PKD, mask_PK), int(mask_PK.any(1).sum())
    seen_O, drawn_OP, _ = _ngrams(texts_PK)
    figures = {
        "across_ead": _ead(seen_O, drawn_OP.sum(1), vocab_size).item() if n >= 2 else torch.nan,
        "across_sbert": 1 - (gram_PP.sum().item() - n) / (n * (n - 1)) if n >= 2 else torch.nan,
        "across_vendi": _vendi(gram_PP, n) if n >= 2 else torch.nan,
        **_traced(embeddings_PKD, mask_PK),
    }
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


def _gram(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    """Cosines of the prompts' first answers, zero where a prompt has none."""
    first_PD = embeddings_PKD[torch.arange(len(mask_PK)), mask_PK.int().argmax(1)] * mask_PK.any(1)[:, None]
    unit_PD = normalize(first_PD.double(), dim=-1)
    return unit_PD @ unit_PD.T


def _vendi(gram_PP: Tensor, n: int) -> float:
    eigenvalues_P = torch.linalg.eigvalsh(gram_PP / n).clamp(min=0)
    return torch.special.entr(eigenvalues_P).sum().exp().item()


def _vendi_without(gram_PP: Tensor, n_P: Tensor) -> Tensor:
    """Vendi [P] of the others, from one eigendecomposition where theirs would cost one for each prompt.

    With det(A_j + t) = det(A + t) (A + t)^-1_jj, A_j being A without row and column j, the sum of x / (x + t) over the
    eigenvalues x falls by drop_j(t) = sum(w_i x_i / (x_i + t)^2) / sum(w_i / (x_i + t)), w_i the squared j-th entries
    of the eigenvectors. And x log x is the integral of x / (1 + t) - x / (x + t) over t > 0. In log t the integrand is
    analytic up to Im = pi, so that equal steps h are off by exp(-2 pi^2 / h) only.
    """
    x_I, vectors_PI = torch.linalg.eigh(gram_PP)
    x_I, weight_PI, own_P = x_I.clamp(min=0), vectors_PI.square(), gram_PP.diagonal()
    t_T = torch.arange(-_REACH, _REACH, _STEP, dtype=torch.float64, device=gram_PP.device).exp()
    resolvent_IT = 1 / (x_I[:, None] + t_T)
    drop_PT = (weight_PI @ (x_I[:, None] * resolvent_IT.square())) / (weight_PI @ resolvent_IT)
    gone_P = _STEP * ((own_P[:, None] / (1 + t_T) - drop_PT) * t_T).sum(1)
    left_P = torch.special.xlogy(x_I, x_I).sum() - gone_P
    return (((x_I.sum() - own_P) * n_P.log() - left_P) / n_P).exp()


def _cosines(embeddings_PKD: Tensor, mask_PK: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Of some prompts C at a time: which, and their answers' cosines with the mean of their own prompt's others [C, K]
    and with each prompt's mean [C, K, Q]; of all at once these grow with the square of the prompts."""
    sum_PD = (embeddings_PKD * mask_PK[..., None]).sum(1)
    mean_QD = normalize(sum_PD, dim=-1)
    at_a_time = max(1, _BLOCK // max(1, mask_PK.numel()))
    for first in range(0, len(mask_PK), at_a_time):
        some_C = slice(first, first + at_a_time)
        some_CKD = embeddings_PKD[some_C]
        others_CKD = normalize(sum_PD[some_C, None, :] - some_CKD, dim=-1)
        own_CK = (some_CKD * others_CKD).sum(-1)
        cosine_CKQ = some_CKD @ mean_QD.T
        _with_itself(cosine_CKQ, some_C).copy_(own_CK.T)
        yield some_C, own_CK, cosine_CKQ


def _with_itself(of_CKQ: Tensor, some_C: slice) -> Tensor:
    """The view [K, C] of what prompts C have with themselves."""
    return of_CKQ.diagonal(some_C.start, dim1=0, dim2=2)


def _traced(embeddings_PKD: Tensor, mask_PK: Tensor) -> dict[str, float]:
    enough_P = mask_PK.sum(1) >= 2
    prompts = int(enough_P.sum())
    if prompts < 2:
        return dict.fromkeys(("traced", "traced_chance", "traced_nats"), torch.nan)
    mask_PK, credits = mask_PK[enough_P], []
    for _, own_CK, cosine_CKQ in _cosines(embeddings_PKD[enough_P], mask_PK):
        # Equal cosines, as when all answers are one text, count as a draw among them and not as the first prompt's.
        best_CK = cosine_CKQ.amax(-1) - _TIE
        credits.append((own_CK >= best_CK).double() / (cosine_CKQ >= best_CK[..., None]).sum(-1))
    traced = torch.cat(credits)[mask_PK].mean()
    nats = _nats(traced, traced.new_tensor(prompts)).item()
    return {"traced": traced.item(), "traced_chance": 1 / prompts, "traced_nats": nats}


def _nats(traced: Tensor, prompts: Tensor) -> Tensor:
    """Fano's bound on the mutual information of so many prompts and their answers, nats; NaN below two prompts."""
    missed = 1 - traced
    bound = prompts.log() + torch.special.xlogy(traced, traced) + torch.special.xlogy(missed, missed / (prompts - 1))
    return bound.clamp(min=0).where(traced > 1 / prompts, traced * 0)


def _traced_without(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    """`traced` [P] of the others; of no meaning where they are fewer than two."""
    enough_P = mask_PK.sum(1) >= 2
    mask_PK = mask_PK & enough_P[:, None]
    credit_P, change_P = embeddings_PKD.new_zeros(2, len(mask_PK), dtype=torch.float64)
    if len(mask_PK) < 2:
        return credit_P
    for some_C, own_CK, cosine_CKQ in _cosines(embeddings_PKD, mask_PK):
        cosine_CKQ[:, :, ~enough_P] = -torch.inf
        top_CK2, nearest_CK2 = cosine_CKQ.topk(2)
        best_CK, second_CK = (top_CK2 - _TIE).unbind(-1)
        near_CKQ = cosine_CKQ >= best_CK[..., None]
        near_CK, hit_CK = near_CKQ.sum(-1), (own_CK >= best_CK).double()
        credit_CK = hit_CK / near_CK
        # Without one of those that share a draw the others get more; without the nearest the second sets the bar.
        gain_CK = hit_CK / (near_CK - 1).clamp(min=1) - credit_CK
        bared_CK = (own_CK >= second_CK).double() / ((cosine_CKQ >= second_CK[..., None]).sum(-1) - 1)
        change_CKQ = near_CKQ * gain_CK[..., None]
        change_CKQ.scatter_(2, nearest_CK2[..., :1], (bared_CK - credit_CK)[..., None])
        _with_itself(change_CKQ, some_C).zero_()  # without its prompt the answer goes too
        credit_P[some_C] = (credit_CK * mask_PK[some_C]).sum(1)
        change_P += change_CKQ[mask_PK[some_C]].sum(0)
    return (credit_P.sum() - credit_P + change_P) / (mask_PK.sum() - mask_PK.sum(1))


def _ead(seen: Tensor, drawn: Tensor, vocab_size: int) -> Tensor:
    """EAD of so many distinct n-grams out of so many, [5, ...] for n = 1 to 5; an order without n-grams counts as 0."""
    expected = vocab_size * (1 - ((vocab_size - 1) / vocab_size) ** drawn.double())
    return (seen / expected).clamp(max=1).where(drawn > 0, 0).mean(0)


def _ngrams(texts_PK: list[list[str | None]]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the prompts' first answers: distinct n-grams [5], all of each answer [5, P], distinct in no other [5, P]."""
    prompts = len(texts_PK)
    firsts = (next((text for text in texts if text is not None), "") for texts in texts_PK)
    tokens_P = [words(text.replace(".", "").replace("\n", "")) for text in firsts]
    number: dict[str, int] = {}
    word_T = torch.tensor([number.setdefault(word, len(number)) for tokens in tokens_P for word in tokens]).long()
    answer_T = torch.arange(prompts).repeat_interleave(torch.tensor([len(tokens) for tokens in tokens_P]).long())
    gram_T, counts = word_T, []
    for n in range(1, _MAX_N + 1):
        if n > 1:
            gram_T = (gram_T[:-1] * len(number) + word_T[n - 1 :]).unique(return_inverse=True)[1]
        of_T = answer_T[: len(gram_T)]
        within_T = of_T == answer_T[n - 1 :]
        own_U = (gram_T * prompts + of_T)[within_T].unique()  # each answer's distinct ones
        answers = (own_U // prompts).bincount()  # that a gram is in
        alone_U = own_U[answers[own_U // prompts] == 1]
        counts.append(
            (
                (answers > 0).sum(),
                of_T[within_T].bincount(minlength=prompts),
                (alone_U % prompts).bincount(minlength=prompts),
            )
        )
    seen, drawn, alone = zip(*counts, strict=True)
    return torch.stack(seen), torch.stack(drawn), torch.stack(alone)
