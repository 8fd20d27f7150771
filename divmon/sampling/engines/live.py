"""The live model, in place: each prompt is prefilled once, its cache shared by its samples, finished rows leave.

`generate(num_return_sequences=K)` prefills a prompt K times and keeps finished rows until the last one ends; those two
are most of what a measurement would waste.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import torch

from divmon.sampling import devices
from divmon.sampling.batch_rows import Rows, Undecided
from divmon.sampling.engines import Batch, Drawn, TooLate, check_decoding
from divmon.sampling.fixed_shapes import FixedForward, Unfit
from divmon.sampling.inverse_cdf import choose
from divmon.sampling.prompt_ends import Prompts, part_prompts
from divmon.sampling.shared_prefix import SharedPrefix, Unshared, attended, widest_shared, worth_sharing
from divmon.sampling.weight_copies import weights_cast_once
from divmon.undisturbed import undisturbed


def live(model: Any, batch: Batch) -> Drawn:
    """Decodes a batch with one prefill per prompt.

    Raises:
        NonFiniteLogits: the model gives NaN.
        TooLate: the batch's deadline is over.
    """
    unshared = ""
    if batch.shares:
        try:
            return _undecided_again(model, batch)
        except Unshared as error:
            batch, unshared = replace(batch, shares=False, cache_tokens=None), str(error)
    return replace(_undecided_again(model, batch), unshared=unshared)


def _undecided_again(model: Any, batch: Batch) -> Drawn:
    if batch.together is None and not batch.waits:
        try:
            return _decode(model, batch)
        except Undecided:  # some distribution is very flat: again, and from here on asking the device at each token
            pass
    return replace(_decode(model, replace(batch, waits=True)), waited=True)


def _decode(model: Any, batch: Batch) -> Drawn:
    device = model.get_input_embeddings().weight.device
    forward = _Forward(model)
    prompts = part_prompts(batch, devices.queued(device), forward.flash)
    own_steps = len(prompts.given_SR) + batch.max_new_tokens
    steps = own_steps if batch.together is None else batch.together.largest(own_steps)
    rows, every = Rows(device, batch, prompts.given_SR, steps), devices.check_every(device)
    logits, cache = forward.prefill(prompts, steps, batch.cache_tokens)
    logits = logits.repeat_interleave(batch.num_samples, dim=0)
    if batch.shares:
        forward.shared = SharedPrefix(model, cache, prompts, batch.num_samples)
    else:
        cache.batch_repeat_interleave(batch.num_samples)
    following, note = _following(forward, cache, prompts, batch, steps)

    running = True
    for step in range(steps):
        if running:
            token = rows.record(_chosen(rows, logits.to(device), step), step, logits)
        if step + 1 == steps:
            break
        look = (step + 1) % every == 0
        if running and (look or step + 1 == own_steps):
            keep = rows.still_running(step + 1)
            if keep is not None:
                running = len(keep) > 0
                if not running:  # others may go on, and then need this process to forward with them: one row idles
                    keep = torch.zeros(1, dtype=torch.long, device=device)
                following.select(keep)
                token = token[keep]
        if look and not _go_on(running, batch):
            break
        logits = following(token)
    return replace(rows.drawn(), note=note or getattr(following, "note", ""))


def _following(
    forward: _Forward, cache: Any, prompts: Prompts, batch: Batch, steps: int
) -> tuple[_Growing | FixedForward, str]:
    """What forwards the tokens after the prompts; on a GPU why it does so by single operations, where it does."""
    note = ""
    if devices.replays(forward.device):
        try:
            padded = prompts.padded and forward.shared is None
            if batch.together is not None or padded or forward.attention != "sdpa":
                why = "processes in step" if batch.together else "padding" if padded else forward.attention
                raise Unfit(f"no CUDA graphs: {why or 'an unknown attention'} does not allow fixed shapes")
            if not forward.takes_positions:
                raise Unfit("no CUDA graphs: the model takes no positions")
            lengths_R1 = prompts.lengths_P1.to(forward.device).repeat_interleave(batch.num_samples, dim=0)
            return FixedForward(forward.model, cache, forward.last, lengths_R1, forward.shared), ""
        except Unfit as error:
            note = str(error)
    return _Growing(forward, cache, prompts, batch.num_samples, steps), note


class _Growing:
    """Forwards with a cache that is shown as far as it is written."""

    def __init__(self, forward: _Forward, cache: Any, prompts: Prompts, num_samples: int, steps: int) -> None:
        self.forward, self.cache, self.length = forward, cache, prompts.ids_PL.shape[1]
        self.position = prompts.lengths_P1.to(forward.device).repeat_interleave(num_samples, dim=0)
        self.mask = None
        if prompts.padded and forward.shared is None:
            mask = prompts.mask_PL.to(forward.device).repeat_interleave(num_samples, dim=0)
            self.mask = torch.nn.functional.pad(mask, (0, steps), value=1)

    def __call__(self, token_r: torch.Tensor) -> torch.Tensor:
        self.length += 1
        mask = None if self.mask is None else self.mask[:, : self.length]
        logits = self.forward(token_r.unsqueeze(-1), mask, self.position, self.cache)
        self.position = self.position + 1
        return logits

    def select(self, keep: torch.Tensor) -> None:
        self.cache.batch_select_indices(keep)
        if self.forward.shared is not None:
            self.forward.shared.select(keep)
            self.forward.shared.drop()
        self.position, self.mask = self.position[keep], None if self.mask is None else self.mask[keep]


def _chosen(rows: Rows, logits_rV: torch.Tensor, step: int) -> torch.Tensor:
    """The token of each running row. Asks the device for nothing unless the batch waits."""
    batch, alive = rows.batch, rows.alive
    undecided = None if batch.waits else rows.undecided
    return choose(logits_rV, rows.uniforms[step][alive], batch.temperature, batch.top_p, undecided)


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
        self.attention = str(getattr(self.config, "_attn_implementation", ""))
        self.flash = "flash" in self.attention
        self.device = model.get_input_embeddings().weight.device
        self.shared: SharedPrefix | None = None
        """The prompts, once they are kept apart."""

    def prefill(self, prompts: Prompts, new_tokens: int, cache_tokens: int | None) -> tuple[torch.Tensor, Any]:
        from divmon.sampling.kv_cache import growing_cache

        cache = growing_cache(self.config, prompts.ids_PL.shape[1] + new_tokens, cache_tokens)
        mask_PL = prompts.mask_PL.to(self.device)
        positions = (mask_PL.cumsum(-1) - 1).clamp(min=0)
        return self(prompts.ids_PL.to(self.device), mask_PL if prompts.padded else None, positions, cache), cache

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        positional = {"position_ids": positions} if self.takes_positions else {}
        given = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
        with attended(self.shared) as more:
            return self.model(**given, **positional, **self.last, **more).logits[:, -1]


class Choice(TypedDict, total=False):
    """How `sample` chooses tokens, and where it ends."""

    temperature: float
    """0 is greedy."""
    top_p: float
    """In (0, 1]; 1 keeps every token."""
    eos_token_id: Any
    """Ids that end a sample; the model's generation config's where not given; None never stops early."""


def sample(
    model: Any,
    input_ids_PL: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    num_samples: int,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Draws `num_samples` completions of each prompt: distributed as `model.generate`'s, each prompt prefilled once.

    The model is left as it was (mode, generators, buffers); dropout is off while sampling.

    Args:
        model: a causal language model of transformers, or one wrapped by PEFT.
        input_ids_PL: prompts [P, L], padded on the left.
        attention_mask: [P, L], 0 on padding; all ones where not given.
        num_samples: K.
        max_new_tokens: T.
        generator: where the randomness comes from; a fresh, randomly seeded one where not given, never the global one.
        choice: `temperature` (1.0), `top_p` (1.0) and `eos_token_id`, as `Choice` has them.

    Returns:
        Token ids [P, K, T] on the prompts' device, padded after a sample's end with the end token (0 without one).

    Raises:
        ValueError: a shape or a setting is off.
        TypeError: there is no setting of that name.
        NonFiniteLogits: the model gives NaN.
    """
    if unknown := sorted(choice.keys() - Choice.__annotations__.keys()):
        raise TypeError(f"sample() has no setting {', '.join(unknown)}; there are {', '.join(Choice.__annotations__)}")
    mask_PL = torch.ones_like(input_ids_PL) if attention_mask is None else attention_mask
    _check(input_ids_PL, mask_PL, num_samples, max_new_tokens)
    temperature, top_p = choice.get("temperature", 1.0), choice.get("top_p", 1.0)
    check_decoding(temperature, top_p)
    eos = choice.get("eos_token_id", model.generation_config.eos_token_id)
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    (P, L), R = input_ids_PL.shape, len(input_ids_PL) * num_samples
    random = torch.rand(R, max_new_tokens, generator=generator, dtype=torch.float64, device=generator.device)
    batch = Batch(
        input_ids_PL=input_ids_PL,
        attention_mask_PL=mask_PL,
        num_samples=num_samples,
        limits_R=torch.full((R,), max_new_tokens),
        uniforms_RT=random.cpu(),
        temperature=temperature,
        top_p=top_p,
        eos_token_ids=[] if eos is None else [eos] if isinstance(eos, int) else list(eos),
        shares=worth_sharing(L, num_samples) and L + max_new_tokens <= widest_shared(model),
    )
    with undisturbed(model), weights_cast_once(model):
        drawn = live(model, batch)
    return drawn.tokens_RT.view(P, num_samples, max_new_tokens).to(input_ids_PL.device)


def _check(input_ids_PL: torch.Tensor, mask_PL: torch.Tensor, num_samples: int, max_new_tokens: int) -> None:
    """Raises ValueError where shapes or numbers are off."""
    if input_ids_PL.ndim != 2 or input_ids_PL.shape[1] == 0:
        raise ValueError(f"input_ids_PL: expected shape [prompts, length >= 1], got {tuple(input_ids_PL.shape)}")
    if mask_PL.shape != input_ids_PL.shape:
        raise ValueError(
            f"attention_mask: expected the shape of the prompts, {tuple(input_ids_PL.shape)}, got"
            f" {tuple(mask_PL.shape)}"
        )
    if not bool(mask_PL[:, -1].all()):
        raise ValueError("attention_mask: the last column holds padding; prompts must be padded on the left")
    if num_samples < 1 or max_new_tokens < 1:
        raise ValueError(f"num_samples and max_new_tokens must be at least 1, got {num_samples} and {max_new_tokens}")
