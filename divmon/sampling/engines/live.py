"""The live model, in place: each prompt is prefilled once, its cache shared by its samples, finished rows leave.

`generate(num_return_sequences=K)` prefills a prompt K times and keeps finished rows until the last one ends; those two
are most of what a measurement would waste.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

import torch

from divmon.guard import undisturbed
from divmon.sampling.engines import Batch, Drawn, NonFiniteLogits, TooLate, check_decoding, not_finite
from divmon.sampling.inverse_cdf import choose
from divmon.sampling.likelihood import token_likelihood

CHECK_EVERY_ON_DEVICE = 8
"""Steps between looks at what has finished, where a look waits for the device."""


def live(model: Any, batch: Batch) -> Drawn:
    """Decodes a batch with one prefill a prompt.

    Raises:
        NonFiniteLogits: the model gives NaN.
        TooLate: the batch's deadline is over.
    """
    device = model.get_input_embeddings().weight.device
    rows = _Rows(device, batch)
    forward = _Forward(model)
    K, T = batch.num_samples, batch.max_new_tokens
    if batch.together is not None:
        T = batch.together.largest(T)
    prompt_mask = batch.attention_mask_PL.to(device)
    # With no padding the attention kernels need no mask, and pick their faster paths.
    padded = not bool(prompt_mask.all())
    logits, cache = forward.prefill(batch.input_ids_PL.to(device), prompt_mask, padded, T)
    logits = logits.repeat_interleave(K, dim=0)
    cache.batch_repeat_interleave(K)
    position = prompt_mask.sum(-1, keepdim=True).repeat_interleave(K, dim=0)
    mask = torch.nn.functional.pad(prompt_mask.repeat_interleave(K, dim=0), (0, T), value=1) if padded else None

    running, length = True, prompt_mask.shape[1]
    for step in range(T):
        if running:
            token = choose(logits.to(device), rows.uniforms[rows.alive, step], batch.temperature, batch.top_p)
            rows.record(token, step, logits)
        if step + 1 == T:
            break
        look = (step + 1) % check_every(device) == 0
        if running and (look or step + 1 == batch.max_new_tokens):
            keep = rows.still_running(step + 1)
            if keep is not None:
                running = len(keep) > 0
                if not running:  # others may go on, and then need this process to forward with them: one row idles
                    keep = torch.zeros(1, dtype=torch.long, device=device)
                cache.batch_select_indices(keep)
                token, position, mask = token[keep], position[keep], None if mask is None else mask[keep]
        if look and not _go_on(running, batch):
            break
        length += 1
        logits = forward(token.unsqueeze(-1), None if mask is None else mask[:, :length], position, cache)
        position = position + 1
    return rows.drawn()


def _go_on(running: bool, batch: Batch) -> bool:
    """Whether any process still runs a row.

    Raises:
        TooLate: the deadline of one is over.
    """
    late = time.monotonic() > batch.deadline
    state = 2 if late else int(running)
    if batch.together is not None:
        state = batch.together.largest(state)
    if state == 2:
        raise TooLate
    return state == 1


def check_every(device: torch.device) -> int:
    """Steps between looks at what has finished: on a CPU a look costs nothing."""
    return 1 if device.type == "cpu" else CHECK_EVERY_ON_DEVICE


class _Rows:
    """What each row of a batch has drawn, and which still run. On the device; looked at only in `still_running`."""

    def __init__(self, device: torch.device, batch: Batch) -> None:
        self.batch, rows = batch, len(batch.limits_R)
        self.limits = batch.limits_R.to(device)
        # Apple's devices have no float64; float32 uniforms are fine enough for a vocabulary.
        self.uniforms = (batch.uniforms_RT.float() if device.type == "mps" else batch.uniforms_RT).to(device)
        self.eos = torch.tensor(list(batch.eos_token_ids), dtype=torch.long, device=device)
        self.tokens = torch.full((rows, batch.max_new_tokens), batch.pad, dtype=torch.long, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self.alive = torch.arange(rows, device=device)
        self.diverged = torch.zeros((), dtype=torch.bool, device=device)
        self.likelihood: torch.Tensor | None = None
        if batch.likelihood_R is not None:
            self.likelihood = torch.full((rows, batch.max_new_tokens, 3), torch.nan, device=device)
            self.asked = batch.likelihood_R.to(device)
            self.places = self.asked.nonzero().squeeze(-1)
            """Of the rows asked for among those alive."""

    def record(self, token_r: torch.Tensor, step: int, logits_rV: torch.Tensor) -> None:
        rows, running = self.alive, ~self.done[self.alive]
        self.tokens[rows, step] = torch.where(running, token_r, self.batch.pad)
        if self.likelihood is not None:
            at = self.places
            self.likelihood[rows[at], step] = token_likelihood(logits_rV[at], token_r[at])
        self.lengths[rows] += running.long()
        ended = running & torch.isin(token_r, self.eos)
        self.ended[rows] |= ended
        self.done[rows] |= ended | (self.lengths[rows] >= self.limits[rows])
        self.diverged |= not_finite(logits_rV).to(self.diverged.device)

    def still_running(self, length: int) -> torch.Tensor | None:
        """What each place of the batch is to hold from here on, by place so far; None where all still run."""
        if bool(self.diverged):
            if self.batch.together is None:
                raise NonFiniteLogits
            self.done[:] = True  # said by `drawn`: until then the others need this process in step
        running = ~self.done[self.alive]
        if self.batch.stopper is not None:
            asked = self.alive[running]
            self.done[asked] |= self.batch.stopper(asked, self.tokens[asked, :length]).to(self.done.device)
            running = ~self.done[self.alive]
        count = int(running.sum())
        if count == len(running):
            return None
        # Those in front stay where they are, and the last ones move to where others left: little is copied.
        keep = torch.arange(count, device=running.device)
        keep[~running[:count]] = running[count:].nonzero().squeeze(-1) + count
        self.alive = self.alive[keep]
        if self.likelihood is not None:
            self.places = self.asked[self.alive].nonzero().squeeze(-1)
        return keep

    def drawn(self) -> Drawn:
        if bool(self.diverged):
            raise NonFiniteLogits
        likelihood = None if self.likelihood is None else self.likelihood.cpu()
        return Drawn(self.tokens.cpu(), self.lengths.cpu(), self.ended.cpu(), likelihood)


class _Forward:
    """A forward of a causal model with a cache: the last position's logits [rows, vocabulary]."""

    def __init__(self, model: Any) -> None:
        self.model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config = base.config
        accepted = inspect.signature(base.forward).parameters
        # Logits of a whole prompt over a 100k vocabulary would be the largest tensor of all.
        self.last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.takes_positions = "position_ids" in accepted

    def prefill(
        self, input_ids_PL: torch.Tensor, mask_PL: torch.Tensor, padded: bool, new_tokens: int
    ) -> tuple[torch.Tensor, Any]:
        from divmon.sampling.kv_cache import growing_cache

        cache = growing_cache(self.config, input_ids_PL.shape[1] + new_tokens)
        positions = (mask_PL.cumsum(-1) - 1).clamp(min=0)
        return self(input_ids_PL, mask_PL if padded else None, positions, cache), cache

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        positional = {"position_ids": positions} if self.takes_positions else {}
        out = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **positional, **self.last
        )
        return out.logits[:, -1]


def sample(
    model: Any,
    input_ids_PL: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    num_samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_token_id: Any = ...,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draws `num_samples` completions of each prompt: distributed as `model.generate`'s, each prompt prefilled once.

    The model is left as it was (mode, generators, buffers); dropout is off while sampling.

    Args:
        model: a causal language model of transformers, or one wrapped by PEFT.
        input_ids_PL: prompts [P, L], padded on the left.
        attention_mask: [P, L], 0 on padding; all ones where not given.
        num_samples: K.
        max_new_tokens: T.
        temperature: 0 is greedy.
        top_p: in (0, 1]; 1 keeps every token.
        eos_token_id: ids that end a sample; the model's generation config's where not given; None never stops early.
        generator: where the randomness comes from; a fresh, randomly seeded one where not given, never the global one.

    Returns:
        Token ids [P, K, T] on the prompts' device, padded after a sample's end with the end token (0 without one).

    Raises:
        ValueError: a shape or a setting is off.
        NonFiniteLogits: the model gives NaN.
    """
    if input_ids_PL.ndim != 2 or input_ids_PL.shape[1] == 0:
        raise ValueError(f"input_ids_PL: expected shape [prompts, length >= 1], got {tuple(input_ids_PL.shape)}")
    if attention_mask is not None and attention_mask.shape != input_ids_PL.shape:
        raise ValueError(
            f"attention_mask: expected the shape of the prompts, {tuple(input_ids_PL.shape)}, got"
            f" {tuple(attention_mask.shape)}"
        )
    if attention_mask is not None and not bool(attention_mask[:, -1].all()):
        raise ValueError("attention_mask: the last column holds padding; prompts must be padded on the left")
    if num_samples < 1 or max_new_tokens < 1:
        raise ValueError(f"num_samples and max_new_tokens must be at least 1, got {num_samples} and {max_new_tokens}")
    check_decoding(temperature, top_p)
    if eos_token_id is ...:
        eos_token_id = model.generation_config.eos_token_id
    eos = [] if eos_token_id is None else [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id)
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    P, R = len(input_ids_PL), len(input_ids_PL) * num_samples
    batch = Batch(
        input_ids_PL=input_ids_PL,
        attention_mask_PL=torch.ones_like(input_ids_PL) if attention_mask is None else attention_mask,
        num_samples=num_samples,
        limits_R=torch.full((R,), max_new_tokens),
        uniforms_RT=torch.rand(
            R, max_new_tokens, generator=generator, dtype=torch.float64, device=generator.device
        ).cpu(),
        temperature=temperature,
        top_p=top_p,
        eos_token_ids=eos,
    )
    with undisturbed(model):
        drawn = live(model, batch)
    return drawn.tokens_RT.view(P, num_samples, max_new_tokens).to(input_ids_PL.device)
