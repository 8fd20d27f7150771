"""The competitors of `sampling.py`: each draws the same prompts' samples, rows stopping after the same lengths."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from sampling_work import K, Work
from transformers import DynamicCache, GenerationConfig, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer
from trl import SFTConfig, SFTTrainer
from trl.trainer.callbacks import LogCompletionsCallback

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.engines import Batch
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt

Way = Callable[[], int]
"""Draws, and returns the number of new tokens that count."""
TRL_BATCH = 8
"""`per_device_eval_batch_size`, transformers' default."""


class Stopping(Sampler):
    """divmon's own sampler, its rows stopped by number; remembers which rows it decoded together."""

    def __init__(self, model: Any, renderer: Renderer, lengths_PK: torch.Tensor) -> None:
        super().__init__(model, renderer)
        self.eos_token_ids = [len(renderer.tokenizer)]  # looked for, never drawn
        self.lengths_PK = lengths_PK
        self.batches: list[tuple[list[int], torch.Tensor]] = []

    def _batch(self, units: Any, seed: int, step: int) -> Batch:
        batch = super()._batch(units, seed, step)
        prompts = [int(unit.request.prompt.id) for unit in units]
        rows = [
            self.lengths_PK[p, unit.first : unit.first + unit.count] for p, unit in zip(prompts, units, strict=True)
        ]
        self.batches.append((prompts, torch.stack(rows)))
        device = self.model.device if self.model.device.type != "cpu" else "cpu"
        lengths = torch.cat(rows).to(device)
        return replace(batch, stopper=lambda rows_r, tokens_rt: tokens_rt.shape[1] >= lengths[rows_r])


def stop_after(lengths_R: torch.Tensor, prompt: int) -> StoppingCriteriaList:
    """The same rule for `generate`."""

    def reached(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return input_ids.shape[1] - prompt >= lengths_R

    return StoppingCriteriaList([reached])


def ways(work: Work, model: Any, tokenizer: Any) -> dict[str, Way]:
    """By name; "divmon" is to be called first, for "generate" and "limit" decode together what it did."""
    texts, lengths = work.texts(), work.lengths()
    drawn, divmon = divmon_way(work, model, tokenizer)
    return {
        "divmon": divmon,
        "limit": _limit(work, model, tokenizer, texts, drawn),
        "generate": _generate(work, model, tokenizer, texts, drawn),
        "TRL": _trl(work, model, tokenizer, texts, lengths),
    }


def divmon_way(work: Work, model: Any, tokenizer: Any) -> tuple[Stopping, Way]:
    texts, lengths = work.texts(), work.lengths()
    renderer = Renderer(tokenizer, chat=False)
    decoding = Decoding(work.new, work.temperature, work.top_p)
    requests = [Request(renderer.render("task", Prompt(str(i), text)), decoding, K) for i, text in enumerate(texts)]
    sampler = Stopping(model, renderer, lengths)

    def run() -> int:
        sampler.batches.clear()
        drawing = sampler.draw(requests, seed=0, step=0)
        assert not drawing.missing, drawing.missing
        assert sampler.name == "live", sampler.reason
        # On a device rows are looked at now and then, and may run past their end: those tokens are cost, not work.
        assert drawing.tokens >= lengths.sum()
        return int(lengths.sum())

    return sampler, run


def _settings(work: Work) -> dict[str, Any]:
    """All that `generate` would take from elsewhere where it is not said."""
    sampling = {"do_sample": True, "temperature": work.temperature, "top_p": work.top_p, "top_k": 0}
    return {**sampling, "max_new_tokens": work.new, "pad_token_id": 0, "eos_token_id": None}


def _generate(work: Work, model: Any, tokenizer: Any, texts: list[str], drawn: Stopping) -> Way:
    def run() -> int:
        tokens = 0
        for prompts, lengths in drawn.batches:
            told = tokenizer([texts[p] for p in prompts], return_tensors="pt", padding=True, padding_side="left")
            ids, mask = (told[name].to(model.device) for name in ("input_ids", "attention_mask"))
            out = model.generate(
                input_ids=ids, attention_mask=mask, num_return_sequences=lengths.shape[1],
                stopping_criteria=stop_after(lengths.flatten().to(model.device), ids.shape[1]), **_settings(work),
            )  # fmt: skip
            assert out.shape == (lengths.numel(), ids.shape[1] + int(lengths.max()))
            tokens += int(lengths.sum())
        return tokens

    return run


def _trl(work: Work, model: Any, tokenizer: Any, texts: list[str], lengths: torch.Tensor) -> Way:
    """TRL's callback, called as a trainer calls it; `generate` is handed the stopping rule on the way."""
    # Its batches are drawn one after another, so more prompts cost more of the same: those of middle length will do.
    middle = slice((work.prompts - 1) // 2, work.prompts // 2 + 1)
    texts, flat = texts[middle], lengths[middle].flatten().to(model.device)
    repeated = [text for text in texts for _ in range(K)]
    config = SFTConfig(
        tempfile.mkdtemp(), per_device_eval_batch_size=TRL_BATCH, report_to="none", gradient_checkpointing=False,
        use_cpu=model.device.type == "cpu", bf16=False, disable_tqdm=True, eval_steps=1,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": text, "completion": "w7"} for text in repeated])
    with contextlib.redirect_stderr(io.StringIO()):
        trainer = SFTTrainer(
            model, args=config, train_dataset=rows.select([0]), eval_dataset=rows, processing_class=tokenizer
        )
    trainer.eval_dataset = rows  # as it was given: SFTTrainer tokenizes its own
    model.generation_config.eos_token_id = None  # which the trainer has set: nobody's rows end by chance
    callback = LogCompletionsCallback(trainer, GenerationConfig(**_settings(work)), freq=1)

    def run() -> int:
        own, batches = model.generate, iter(flat.split(TRL_BATCH))

        def generate(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return own(input_ids=input_ids, stopping_criteria=stop_after(next(batches), input_ids.shape[1]), **kwargs)

        model.generate = generate
        trainer.state.global_step += 1
        try:
            callback.on_step_end(config, trainer.state, trainer.control, processing_class=tokenizer)
        finally:
            del model.generate
        assert len(callback.table) == len(repeated)
        callback.table.clear()
        return int(flat.sum())

    return run


class _Bare(DynamicLayer):
    """The least that a cache can cost: room for all tokens from the start; the rows that stop are the last ones."""

    def __init__(self, prompt_R: torch.Tensor, capacity: int) -> None:
        super().__init__()
        self.prompt_R, self.capacity, self.length = prompt_R, capacity, 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.is_initialized = True
        rows, start = len(keys), self.length
        self.length += keys.shape[2]
        if not start:
            self.rooms = []
            for states in (keys, values):
                room = states.new_empty(len(self.prompt_R), states.shape[1], self.capacity, states.shape[3])
                room[:, :, : self.length] = states[self.prompt_R]
                self.rooms.append(room)
            return keys, values
        for room, states in zip(self.rooms, (keys, values), strict=True):
            room[:rows, :, start : self.length] = states
        shown = [room[:rows, :, : self.length] for room in self.rooms]
        return shown[0], shown[1]

    def get_seq_length(self) -> int:
        return self.length


def _limit(work: Work, model: Any, tokenizer: Any, texts: list[str], drawn: Stopping) -> Way:
    """Each prompt forwarded once, then a forward a token of the rows that still run, and nothing else."""

    @torch.no_grad()
    def run() -> int:
        tokens = 0
        for prompts, lengths in drawn.batches:
            told = tokenizer([texts[p] for p in prompts], return_tensors="pt", padding=True, padding_side="left")
            ids, mask = (told[name].to(model.device) for name in ("input_ids", "attention_mask"))
            flat, order = lengths.flatten().sort(descending=True)
            prompt_R = (order // lengths.shape[1]).to(model.device)
            cache = DynamicCache(config=model.config)
            cache.layers = [_Bare(prompt_R, ids.shape[1] + work.new) for _ in cache.layers]
            padded = not bool(mask.all())
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            _forward(model, ids, mask if padded else None, positions, cache)
            mask_R, position_R = mask[prompt_R], positions[prompt_R, -1:] + 1
            token = torch.full((len(flat), 1), 7, device=model.device)
            running = [int((flat > step).sum()) for step in range(1, int(flat.max()))]
            for rows in running:
                mask_R = torch.nn.functional.pad(mask_R[:rows], (0, 1), value=1)
                _forward(model, token[:rows], mask_R if padded else None, position_R[:rows], cache)
                position_R = position_R + 1
            tokens += int(flat.sum())
        return tokens

    return run


def _forward(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any) -> Any:
    return model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    ).logits  # fmt: skip
