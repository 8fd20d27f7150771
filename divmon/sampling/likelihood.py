"""How sure the model is of what it says: entropy, top-1 probability and negative log-likelihood of tokens.

At temperature 1 and before top-p, whatever samples are drawn with: a temperature of 0.6 hides what the model still
holds possible, and top-p cuts it off.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from divmon.sampling.batch_memory import cache_token_budget
from divmon.sampling.context_length import context_length
from divmon.types import Likelihood, RenderedPrompt, Sample
from divmon.undisturbed import is_out_of_memory, release_memory, undisturbed

if TYPE_CHECKING:
    from divmon.prompts.rendering import Renderer
    from divmon.sampling.engines import Lockstep

FORKING = 0.672
"""Nats of entropy above which a token is a fork: the 80th percentile over a reasoning model's tokens in Wang et al.
2025 (arXiv:2506.01939), just below an even choice between two tokens (ln 2)."""
AT_ONCE = 1 << 18
"""Logits worked on together on a CPU: two buffers of them stay in its cache."""
RULED_OUT = -100.0
"""Below the likeliest token by so many nats, a token adds less than 1e-40 to any of the sums."""


def token_likelihood(logits_RV: torch.Tensor, token_R: torch.Tensor) -> torch.Tensor:
    """Of each row's distribution at temperature 1: its entropy (nats), its largest probability, and the negative
    log-likelihood (nats) of the token.

    With y the logits less their maximum, e = exp(y) and Z = sum e: entropy = log Z - sum(e y) / Z, the largest
    probability is 1 / Z, and the negative log-likelihood log Z - y[token].

    Args:
        logits_RV: [rows, vocabulary], any float type; minus infinity rules a token out.
        token_R: ids [rows].

    Returns:
        float32 [rows, 3].

    >>> token_likelihood(torch.zeros(1, 4), torch.tensor([2])).tolist()[0][1:]
    [0.25, 1.3862943649291992]
    """
    on_cpu = logits_RV.device.type == "cpu"
    rows = max(1, AT_ONCE // logits_RV.shape[-1]) if on_cpu else max(1, len(logits_RV))
    room_RV = logits_RV.new_empty(min(rows, len(logits_RV)), logits_RV.shape[-1], dtype=torch.float32)
    found = []
    for some_RV, token_r in zip(logits_RV.split(rows), token_R.split(rows), strict=True):
        less_RV = some_RV.float() - some_RV.amax(-1, keepdim=True)
        exp_RV = torch.exp(less_RV, out=room_RV[: len(some_RV)])
        total_R, product_R = exp_RV.sum(-1), torch.linalg.vecdot(exp_RV, less_RV)
        # 0 times minus infinity; on a device, to look would wait for it.
        if not on_cpu or not bool(product_R.isfinite().all()):
            product_R = torch.linalg.vecdot(exp_RV, less_RV.clamp(min=RULED_OUT))
        log_R = total_R.log()
        of_token_R = less_RV.gather(-1, token_r.unsqueeze(-1)).squeeze(-1)
        found.append(torch.stack([log_R - product_R / total_R, 1 / total_R, log_R - of_token_R], -1))
    return torch.cat(found)


def recorded(num_samples: int) -> int:
    """Of a prompt's samples, so many of the first have their tokens' likelihood recorded: an eighth.

    Of all it took up to a fifth of the time of sampling, of a model so small that its vocabulary is most of it.
    """
    return max(1, num_samples // 8)


def of_sample(tokens_T3: torch.Tensor) -> Likelihood | None:
    """Means over the tokens of one completion; None where it has none or they are not known.

    Args:
        tokens_T3: as `token_likelihood` gives them, NaN where it was not asked.
    """
    if not len(tokens_T3) or bool(tokens_T3.isnan().any()):
        return None
    entropy_T, top1_T, nll_T = tokens_T3.double().unbind(-1)
    forking = (entropy_T > FORKING).double().mean()
    return Likelihood(*(float(mean) for mean in (entropy_T.mean(), forking, top1_T.mean(), nll_T.mean())))


# -- texts that exist

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt, and of a completion that follows it."""

TEXTS = 1
"""Completions of a prompt that are scored, the first ones. One forward costs about what its tokens do while drawing, so
of K = 16 short completions one is a sixteenth; longer ones are cut at `MOST_TOKENS`."""
MOST_TOKENS = 128
"""Of a completion, its first."""
LOGITS_ON_CPU, LOGITS_ON_DEVICE = 1 << 23, 1 << 28
"""Logits of one batch, float32: 32 MB and 1 GB."""


def rows_of(renderer: Renderer, prompt: RenderedPrompt, samples: Sequence[Sample]) -> list[Row]:
    """The first completions of a prompt as token ids, encoded again from their texts, as a resumed run has nothing
    else; without the token that closed them."""
    rows = []
    for sample in [s for s in samples if s.text or s.reasoning][:TEXTS]:
        text = sample.text
        if sample.reasoning is not None:
            tags = renderer.tags
            text = (
                f"{'' if prompt.in_reasoning else tags.open}{sample.reasoning}{tags.close if sample.answered else ''}"
                f"{text}"
            )
        ids = renderer.tokenizer(text, add_special_tokens=False)["input_ids"][:MOST_TOKENS]
        if ids:
            rows.append((tuple(prompt.input_ids), tuple(ids)))
    return rows


def text_nll(model: Any, rows: Sequence[Row], together: Lockstep | None = None) -> list[float]:
    """Negative log-likelihood of each completion, the sum over its tokens in nats; NaN where it does not fit the
    model's context. The model is left as it was.

    Args:
        together: processes that share the model's parameters: each must call this, with rows of its own.

    Raises:
        RuntimeError: a single row does not fit the memory.
    """
    context = context_length(model) or sys.maxsize
    found = [math.nan] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    fit = [i for i in order if len(rows[i][0]) + len(rows[i][1]) <= context]
    with undisturbed(model):
        batches = list(_batches(model, rows, fit))
        for b in range(len(batches) if together is None else together.largest(len(batches))):
            if b < len(batches):
                for i, nll in zip(batches[b], _forward(model, [rows[i] for i in batches[b]], together), strict=True):
                    found[i] = nll
            else:
                _forward(model, [((0,), (0,))], together)  # for the sake of the processes that still go on
    return found


def _batches(model: Any, rows: Sequence[Row], order: Sequence[int]) -> Iterator[list[int]]:
    """Rows of like length together, as many as the logits and the hidden states have room for."""
    parameter = next(model.parameters())
    room = LOGITS_ON_CPU if parameter.device.type == "cpu" else LOGITS_ON_DEVICE
    vocabulary, tokens = model.config.get_text_config().vocab_size, cache_token_budget(model)
    batch: list[int] = []
    for i in order:
        several = [*batch, i]
        answer = max(len(rows[j][1]) for j in several) + 1
        width = max(len(rows[j][0]) + len(rows[j][1]) for j in several)
        if batch and (answer * vocabulary * len(several) > room or width * len(several) > tokens):
            yield batch
            several = [i]
        batch = several
    if batch:
        yield batch


def _forward(model: Any, rows: Sequence[Row], together: Lockstep | None) -> list[float]:
    """The sums of one batch; in halves where memory runs out."""
    try:
        return _sums(model, rows)
    except (RuntimeError, MemoryError) as error:
        if together is not None or len(rows) == 1 or not is_out_of_memory(error):
            raise
    release_memory()
    middle = len(rows) // 2
    return _forward(model, rows[:middle], None) + _forward(model, rows[middle:], None)


def _sums(model: Any, rows: Sequence[Row]) -> list[float]:
    from divmon.sampling.engines import left_pad

    device = model.get_input_embeddings().weight.device
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepted = inspect.signature(base.forward).parameters
    ids_RL, mask_RL = left_pad([prompt + answer for prompt, answer in rows])
    longest = max(len(answer) for _, answer in rows)
    given: dict[str, Any] = {"input_ids": ids_RL.to(device), "attention_mask": mask_RL.to(device), "use_cache": False}
    if "position_ids" in accepted:
        given["position_ids"] = (mask_RL.cumsum(-1) - 1).clamp(min=0).to(device)
    if "logits_to_keep" in accepted:
        given["logits_to_keep"] = longest + 1
    logits_RTV = model(**given).logits[:, -longest - 1 : -1]
    answer_RT = ids_RL[:, -longest:].to(device)
    nll_RT = torch.nn.functional.cross_entropy(logits_RTV.flatten(0, 1).float(), answer_RT.flatten(), reduction="none")
    lengths_R1 = torch.tensor([[len(answer)] for _, answer in rows], device=device)
    own_RT = torch.arange(longest, 0, -1, device=device) <= lengths_R1
    return nll_RT.view_as(answer_RT).double().where(own_RT, 0.0).sum(-1).tolist()
