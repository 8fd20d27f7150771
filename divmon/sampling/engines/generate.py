"""`model.generate`, for models whose cache cannot be shared between samples (linear attention, hybrids, soft prompts).

Slower (each sample prefills its prompt, finished rows stay), and the same samples: a logits processor of ours puts all
probability on the token that the row's own uniform picks, so the sampler of `generate` has nothing left to choose.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from divmon.sampling.engines import Batch, Drawn, NonFiniteLogits, TooLate, not_finite
from divmon.sampling.generation_config import own_generation_config_aside
from divmon.sampling.inverse_cdf import choose
from divmon.sampling.likelihood import token_likelihood


def neutral_generation_config(batch: Batch) -> Any:
    """A generation config with every sampling field said whose default is not neutral (top_k is 50)."""
    from transformers import GenerationConfig

    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
    samples = batch.temperature > 0
    return GenerationConfig(
        max_new_tokens=batch.max_new_tokens,
        do_sample=samples,
        **(neutral if samples else {}),  # greedy takes none of these, and warns of them
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        num_beams=1,
        num_return_sequences=1,
        min_length=0,
        eos_token_id=list(batch.eos_token_ids) or None,
        pad_token_id=batch.pad,
        use_cache=True,
        return_dict_in_generate=False,
    )


def generate(model: Any, batch: Batch) -> Drawn:
    """Decodes a batch with `model.generate`, each prompt repeated for its samples.

    Raises:
        NonFiniteLogits: the model gives NaN.
        TooLate: the batch's deadline is over.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    device = model.get_input_embeddings().weight.device
    ids = batch.input_ids_PL.to(device).repeat_interleave(batch.num_samples, dim=0)
    mask = batch.attention_mask_PL.to(device).repeat_interleave(batch.num_samples, dim=0)
    prompt_length = ids.shape[1]
    stopped, picked = _Stopped(batch, prompt_length), _PickByUniform(batch, prompt_length)
    with own_generation_config_aside(model):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=neutral_generation_config(batch),
            logits_processor=LogitsProcessorList([picked]),
            stopping_criteria=StoppingCriteriaList([stopped]),
        )
    if stopped.late:
        raise TooLate
    tokens = out[:, prompt_length:].cpu()
    tokens = torch.nn.functional.pad(tokens, (0, batch.max_new_tokens - tokens.shape[1]), value=batch.pad)
    drawn = _trim(tokens, stopped.lengths.cpu(), batch)
    return replace(drawn, likelihood_RT3=torch.stack(picked.likelihood, 1)) if picked.likelihood else drawn


class _PickByUniform:
    """A logits processor that leaves one token possible: the one that the row's uniform picks."""

    def __init__(self, batch: Batch, prompt_length: int) -> None:
        self.batch, self.prompt_length = batch, prompt_length
        self.likelihood: list[torch.Tensor] = []
        """Of each step so far, where it is asked for."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if bool(not_finite(scores)):
            raise NonFiniteLogits
        uniform_R = self.batch.uniforms_RT[:, input_ids.shape[1] - self.prompt_length]
        token = choose(scores, uniform_R.to(scores.device), self.batch.temperature, self.batch.top_p)
        if (asked := self.batch.likelihood_R) is not None:
            found = torch.full((len(scores), 3), torch.nan)
            found[asked] = token_likelihood(scores[asked.to(scores.device)], token[asked.to(token.device)]).cpu()
            self.likelihood.append(found)
        return torch.full_like(scores, -torch.inf).scatter(-1, token.unsqueeze(-1), 0.0)


class _Stopped:
    """A stopping criterion a row: its limit or a stop string. Remembers where each row stopped."""

    def __init__(self, batch: Batch, prompt_length: int) -> None:
        self.batch, self.prompt_length = batch, prompt_length
        self.lengths = batch.limits_R.clone()
        self.done = torch.zeros(len(batch.limits_R), dtype=torch.bool)
        self.late = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        new = input_ids[:, self.prompt_length :].cpu()
        self.late |= time.monotonic() > self.batch.deadline
        stopped = (new.shape[1] >= self.batch.limits_R) | self.late
        rows = (~(stopped | self.done)).nonzero().squeeze(-1)
        if self.batch.stopper is not None and len(rows):
            stopped[rows] |= self.batch.stopper(rows, new[rows]).cpu()
        self.lengths[stopped & ~self.done] = new.shape[1]
        self.done |= stopped
        return self.done.to(input_ids.device)


def _trim(tokens_RT: torch.Tensor, lengths_R: torch.Tensor, batch: Batch) -> Drawn:
    """Cuts each row at its first end token, its stop or its limit, whichever comes first."""
    is_eos = torch.isin(tokens_RT, torch.tensor(list(batch.eos_token_ids), dtype=torch.long))
    positions = torch.arange(1, tokens_RT.shape[1] + 1)
    first_eos_R = torch.where(is_eos, positions, tokens_RT.shape[1] + 1).min(-1).values
    ended_R = first_eos_R <= lengths_R
    lengths_R = torch.minimum(lengths_R, first_eos_R)
    past = positions.unsqueeze(0) > lengths_R.unsqueeze(-1)
    return Drawn(tokens_RT.masked_fill(past, batch.pad), lengths_R, ended_R)
