"""Requests -> samples with a model in this process: batches by memory, halving when it runs out, stop strings, text.

The model itself is asked by one of `divmon.sampling.engines`.
"""

from __future__ import annotations

import functools
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request, devices
from divmon.sampling.batch_memory import cache_token_budget, logit_tokens, most_rows
from divmon.sampling.batch_plan import Budget, Lengths, TooLarge, Unit, halves
from divmon.sampling.completions import from_ids
from divmon.sampling.context_length import context_length, fitting, what_does_not_fit, width_limit
from divmon.sampling.engines import Batch, DecodeBatch, Drawn, Lockstep, NonFiniteLogits, TooLate, idle, left_pad
from divmon.sampling.engines.generate import generate
from divmon.sampling.engines.live import live
from divmon.sampling.generation_config import put_aside
from divmon.sampling.inverse_cdf import uniforms
from divmon.sampling.likelihood import of_sample, recorded
from divmon.sampling.shared_prefix import widest_shared
from divmon.sampling.stop_strings import StopStrings, completing_tokens
from divmon.sampling.weight_copies import Casting, weights_cast_once
from divmon.types import Finish
from divmon.undisturbed import is_out_of_memory, memory_handed_back, release_memory, undisturbed

logger = logging.getLogger("divmon")


class Sampler:
    """Samples from a model in this process.

    Args:
        model: a causal language model of transformers, or one wrapped by PEFT.
        renderer: gives the text of token ids, without the reasoning.
        how: "auto" shares each prompt's cache between its samples, where that gives what `generate` gives; "live" does
            so unchecked, "generate" never.
        max_batch_tokens: prompt and new tokens that a batch may hold in its cache; by free memory where None.
        max_memory_gb: that a batch's cache may take, by estimate (10^9 bytes).
        timeout: seconds after which what is not sampled yet is given up.
        together: processes that share the model's parameters: each must call `draw`, with requests of its own.
        likelihood: also record how sure the model is of the tokens of some samples (`divmon.sampling.likelihood`).
    """

    in_parts = True
    """A request may be for some of a prompt's samples (`Request.first`)."""

    def __init__(
        self,
        model: Any,
        renderer: Renderer,
        *,
        how: str = "auto",
        max_batch_tokens: int | None = None,
        max_memory_gb: float | None = None,
        timeout: float = math.inf,
        together: Lockstep | None = None,
        likelihood: bool = False,
    ) -> None:
        if how not in ("auto", "live", "generate"):
            raise ValueError(f"no sampler named {how!r}; there are 'auto', 'live' and 'generate'")
        self.model, self.renderer = model, renderer
        self.max_batch_tokens = max_batch_tokens
        self.max_memory_gb = max_memory_gb
        self.timeout = timeout
        self.together = together
        self.likelihood = likelihood
        self._deadline, self._too_large = math.inf, TooLarge()
        self._said = ""
        self.name = "generate" if how == "generate" else "live"
        aside = put_aside(model)
        self._aside = f"; the model's own generation_config is put aside ({aside})" if aside else ""
        self._reason = f"asked for by sampler={how!r}{self._aside}" if how != "auto" else ""
        self._casting = Casting()
        self._note = ""
        self._unshared = ""
        """Why prompts are kept once per sample."""
        self._waits = False
        """Whether a distribution was so flat that tokens are chosen one step at a time."""
        self._checked = how != "auto"
        self._lengths, self._budget = Lengths(), Budget(sys.maxsize, 0, sys.maxsize, math.inf)
        self._completing = functools.cache(functools.partial(completing_tokens, renderer))
        generation = getattr(model, "generation_config", None)
        self.eos_token_ids = sorted(renderer.eos_token_ids(getattr(generation, "eos_token_id", None)))

    @property
    def reason(self) -> str:
        unshared = f"long prompts are kept once per sample: {self._unshared}" if self._unshared else ""
        return "; ".join(filter(None, (self._reason, self._casting.words, self._note, unshared)))

    def use(self, model: Any) -> None:
        """Samples from this model from now on."""
        self.model = model

    def release(self) -> None:
        """Lets go of the model, whose memory may be needed; `use` gives the next one."""
        self.model = None

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """Samples every request; one that cannot be sampled is in `missing` with its reason, the others go on.

        Args:
            seed, step: with task, prompt id and sample number, all that a sample's randomness depends on.
            progress: called with the number of samples that have just been finished.
        """
        context = context_length(self.model)
        fit, missing = fitting(requests, context)
        if fit != list(requests) and (said := what_does_not_fit(requests, fit, context)) != self._said:
            self._said = said
            logger.warning("divmon: %s", said)
        drawing = Drawing(missing=missing)
        self._deadline, self._too_large = time.monotonic() + self.timeout, TooLarge()
        copies = weights_cast_once(self.model, self.max_memory_gb)
        with memory_handed_back(), undisturbed(self.model), copies as self._casting:
            self.prepare(requests)
            for batch in self._in_step(self._batches(self._units(fit), sized=self._sizes)):
                late = self._largest(time.monotonic() > self._deadline)
                if late:
                    drawing.missing |= {unit.request.key: str(TooLate()) for unit in batch}
                elif batch:
                    self._draw_units(batch, seed, step, drawing, progress)
                else:
                    self._decode(self.model, idle(self.together, self._deadline))
        lost = drawing.missing.keys()
        drawing.samples = [s for s in drawing.samples if (s.task, s.prompt_id) not in lost]
        order = {request.key: i for i, request in enumerate(requests)}
        drawing.samples.sort(key=lambda s: (order[s.task, s.prompt_id], s.index))
        return drawing

    def prepare(self, requests: Sequence[Request]) -> None:
        """Once: whether samples may share their prompt's cache; of processes in step each with the same requests."""
        if self._checked:
            return
        context = context_length(self.model)
        fit, _ = fitting(requests, context)
        if not fit:
            return
        from divmon.sampling.prefix_check import compare

        with undisturbed(self.model):
            difference, self._unshared = compare(self.model, fit, context, self.eos_token_ids)
        self._checked = True
        if difference:
            self.name, self._reason = "generate", difference + self._aside
            logger.warning("divmon samples with model.generate, which is slower: %s", difference)
        else:
            self._reason = f"greedy tokens equal to generate's{self._aside}"

    def _units(self, requests: Sequence[Request]) -> list[Unit]:
        return [Unit(request, request.first, request.num_samples) for request in requests]

    def planned(self, requests: Sequence[Request]) -> list[list[Request]]:
        """The batches that `draw` would decode, one after the other; of processes in step each must ask."""
        fit, _ = fitting(requests, context_length(self.model))
        batches = self._batches(self._units(fit))
        return [[replace(u.request, first=u.first, num_samples=u.count) for u in batch] for batch in batches]

    def _batches(self, units: list[Unit], sized: bool = False) -> Iterator[list[Unit]]:
        """What is decoded together, one after the other.

        Args:
            sized: by how long completions were before.
        """
        dtype, beside = self._casting.dtype, 0
        tokens = self.max_batch_tokens
        if tokens is None:
            tokens, beside = cache_token_budget(self.model, self.max_memory_gb, dtype), logit_tokens(self.model, dtype)
        tokens = -self._largest(-tokens)
        shared = widest_shared(self.model) if self._alone and not self._unshared else 0
        self._budget = Budget(tokens, beside, most_rows(self.model), width_limit(self.model), shared)
        return self._budget.batches(units, self._lengths if sized else None)

    @property
    def _alone(self) -> bool:
        """Whether a batch may fail and be decoded otherwise: of processes in step none can do so by itself."""
        return self.name == "live" and self.together is None

    @property
    def _sizes(self) -> bool:
        """Whether batches are sized by how long completions were. On a CPU it would be for nothing, as a step takes as
        long as it has rows."""
        return self._alone and devices.queued(next(self.model.parameters()).device)

    def _in_step(self, batches: Iterator[list[Unit]]) -> Iterator[list[Unit]]:
        """The batches, and empty ones while other processes still have some."""
        if self.together is None:  # made one at a time: what one shows of lengths, the next is sized by
            yield from batches
            return
        planned = list(batches)
        for i in range(self._largest(len(planned))):
            yield planned[i] if i < len(planned) else []

    def _largest(self, value: int) -> int:
        return int(value) if self.together is None else self.together.largest(int(value))

    @property
    def _decode(self) -> DecodeBatch:
        return generate if self.name == "generate" else live

    def _draw_units(
        self, units: list[Unit], seed: int, step: int, drawing: Drawing, progress: Callable[[int], None]
    ) -> None:
        """Decodes a batch; where memory runs out or a row is not finite, its halves, down to one sample, then skips it
        with the reason."""
        whole = self.together is not None  # processes in step cannot take a batch apart on their own
        diverged = False
        units = units if whole else self._too_large.leave_out(units, drawing.missing)
        if not units:
            return
        try:
            if not whole and time.monotonic() > self._deadline:
                raise TooLate
            decoded = self._decode(self.model, self._batch(units, seed, step))
        except (NonFiniteLogits, TooLate) as error:
            reason = str(error)
            diverged, whole = isinstance(error, NonFiniteLogits), whole or isinstance(error, TooLate)
        except (RuntimeError, MemoryError) as error:
            if whole or not is_out_of_memory(error):
                raise
            reason = self._too_large.reason(units, error)
        else:
            self._keep(units, decoded, drawing)
            progress(len(decoded.lengths_R))
            return
        # Out of the except block, so that the traceback no longer holds the batch's tensors.
        release_memory()
        # Of a model that diverged every sample fails: its prompts are told apart, not its samples.
        smaller = [] if whole or (diverged and len(units) == 1) else halves(units)
        if not smaller:
            drawing.missing |= {unit.request.key: reason for unit in units}
        for half in smaller:
            self._draw_units(half, seed, step, drawing, progress)

    def _keep(self, units: list[Unit], decoded: Drawn, drawing: Drawing) -> None:
        """Makes samples of what was decoded."""
        self._waits |= decoded.waited
        self._note, self._unshared = decoded.note or self._note, decoded.unshared or self._unshared
        lengths, ended = decoded.lengths_R.tolist(), decoded.ended_R.tolist()
        for row, (unit, index) in enumerate((u, index) for u in units for index in u.indices):
            tokens = decoded.tokens_RT[row, : lengths[row]].tolist()
            finish: Finish = "eos" if ended[row] else "length"
            sample = from_ids(self.renderer, unit.request, index, tokens[:-1] if ended[row] else tokens, finish)
            if decoded.likelihood_RT3 is not None:
                sample = replace(sample, likelihood=of_sample(decoded.likelihood_RT3[row, : sample.n_tokens]))
            drawing.samples.append(sample)
            self._lengths.add(unit, lengths[row : row + 1])
        drawing.tokens += sum(lengths)

    def _batch(self, units: list[Unit], seed: int, step: int) -> Batch:
        count, decoding = units[0].count, units[0].request.decoding
        ids, mask = left_pad([unit.request.prompt.input_ids for unit in units])
        limits = torch.tensor([unit.limit for unit in units]).repeat_interleave(count)
        numbered = [(unit, index) for unit in units for index in unit.indices]
        random = [uniforms((seed, step, *unit.request.key, index), int(limits.max())) for unit, index in numbered]
        recording = torch.tensor([index < recorded(unit.request.num_samples) for unit, index in numbered])
        return Batch(
            input_ids_PL=ids,
            attention_mask_PL=mask,
            num_samples=count,
            limits_R=limits,
            uniforms_RT=torch.from_numpy(np.stack(random)),
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            eos_token_ids=self.eos_token_ids,
            stopper=self._stopper(units),
            deadline=self._deadline,
            together=self.together,
            waits=self._waits,
            cache_tokens=self._budget.cache(units) if self._sizes else None,
            shares=self._alone and self._budget.shares(units),
            likelihood_R=recording if self.likelihood else None,
        )

    def _stopper(self, units: list[Unit]) -> StopStrings | None:
        stops = frozenset(stop for unit in units for stop in unit.request.decoding.stop)
        rows = [(u.request.decoding.stop, u.request.prompt.in_reasoning) for u in units for _ in u.indices]
        return StopStrings(self.renderer, rows, self._completing(stops)) if stops else None
