"""From requests to samples: the same in any batch, memory that runs out, stop strings, models that cannot share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from support import SUPPORT, tiny

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.batch_plan import Unit
from divmon.sampling.engines.live import live
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt, RenderedPrompt, Sample

TEXTS = ["what is one plus two?", "what?", "it is three. what is one plus one plus two plus two?", "is it one?"]


def wide(name: str, seed: int = 0, **config: Any) -> Any:
    return tiny.model(name, seed=seed, **{"vocab_size": 400, **config})


def requests(renderer: Renderer, n: int = 4, **decoding: Any) -> list[Request]:
    limits = Decoding(**{"max_new_tokens": 20, "temperature": 1.0, "top_p": 0.95, **decoding})
    return [Request(renderer.render("task", Prompt(str(i), text)), limits, n) for i, text in enumerate(TEXTS)]


def draw(model: Any, *, n: int = 4, step: int = 3, seed: int = 7, **options: Any) -> list[Sample]:
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    decoding = options.pop("decoding", {})
    drawing = Sampler(model, renderer, **options).draw(requests(renderer, n, **decoding), seed=seed, step=step)
    assert not drawing.missing
    assert drawing.tokens == sum(s.n_tokens for s in drawing.samples) or decoding.get("stop")
    return drawing.samples


@pytest.mark.parametrize("budget", [1, 60, 130, 100_000])
def test_a_sample_is_the_same_in_any_batch(budget: int) -> None:
    model = wide("olmo3")
    assert draw(model, max_batch_tokens=budget) == draw(model, max_batch_tokens=777)


def test_a_batch_has_room_for_its_longest_prompt_beside_its_longest_completion() -> None:
    """Each row of a batch is as wide as the widest: a long prompt and a long answer of another fill both."""
    sampler = Sampler(wide("llama"), Renderer(tiny.tokenizer(TEXTS), chat=False), max_batch_tokens=33_000)
    sizes = [(2000, 50), (2000, 50), (50, 2000), (50, 2000), (10, 10), (10, 10)]
    units = [
        Unit(Request(RenderedPrompt("task", str(i), "", (1,) * prompt), Decoding(max_new_tokens=new), 4), 0, 4)
        for i, (prompt, new) in enumerate(sizes)
    ]
    batches = list(sampler._batches(units))
    assert sorted(unit.request.key for batch in batches for unit in batch) == sorted(u.request.key for u in units)
    for batch in batches:
        prompts, new = zip(*(sizes[int(unit.request.prompt.id)] for unit in batch), strict=True)
        assert (max(prompts) + max(new)) * 4 * len(batch) <= 33_000
    assert len(batches) == 2, "with the short ones, the long prompts still fit; with the long answers they do not"


@pytest.mark.parametrize(("rows", "expected"), [(3, 3), (8, 8), (11, 8), (16, 16)])
def test_a_batch_on_a_cpu_has_no_more_rows_than_are_worth_it(
    rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much memory there is, of four prompts with four samples each."""
    model, together = wide("llama"), []

    def counted(model: Any, batch: Any) -> Any:
        together.append(len(batch.limits_R))
        return live(model, batch)

    whole = draw(model)
    monkeypatch.setattr("divmon.sampling.sampler.live", counted)
    monkeypatch.setattr("divmon.sampling.batch_memory.CPU_ROWS", rows)
    assert draw(model, how="live") == whole
    assert sum(together) == 16 and max(together) == expected


def test_the_first_samples_of_many_are_those_of_few() -> None:
    """What lets a reference of 64 be compared on its first 16."""
    model = wide("olmo3")
    many, few = draw(model, n=8), draw(model, n=3)
    assert [s for s in many if s.index < 3] == few


def test_samples_differ_between_steps_seeds_prompts_and_numbers() -> None:
    model = wide("llama")
    first = draw(model)
    assert len({s.text for s in first}) == len(first)
    assert not {s.text for s in draw(model, step=4)} & {s.text for s in first}
    assert not {s.text for s in draw(model, seed=8)} & {s.text for s in first}


@pytest.mark.parametrize("family", ["olmo3", "llama", "qwen3", "olmo3-lora"])
def test_generate_gives_the_very_same_samples(family: str) -> None:
    model = wide(family)
    eos = list(range(5, 30))
    model.generation_config.eos_token_id = eos
    model.generation_config.top_k = 3  # what a user's config may hold must not leak into the draw
    shared, fallback = draw(model, how="live"), draw(model, how="generate")
    assert shared == fallback
    assert {s.finish for s in shared} == {"eos", "length"}
    assert model.generation_config.top_k == 3


def test_stop_strings_end_and_are_cut_however_often_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide("olmo3")
    plain = draw(model, decoding={"max_new_tokens": 40})
    stop = tuple(sorted({s.text[i : i + 2] for s in plain for i in (7, 9, 12) if s.text[i : i + 2].isascii()})[:8])
    for how in ("live", "generate"):
        stopped = draw(model, how=how, decoding={"max_new_tokens": 40, "stop": stop})
        for before, after in zip(plain, stopped, strict=True):
            at = [before.text.find(x) for x in stop if x in before.text]
            if at:
                assert after.text == before.text[: min(at)]
                assert after.finish == "stop"
                assert after.n_tokens < before.n_tokens or before.text.endswith(stop)
            else:
                assert after == before
        assert {s.finish for s in stopped} >= {"stop"}
    every_step = draw(model, decoding={"max_new_tokens": 40, "stop": stop})
    monkeypatch.setattr("divmon.sampling.devices.check_every", lambda device: 8)
    assert draw(model, decoding={"max_new_tokens": 40, "stop": stop}) == every_step


def test_reasoning_is_not_searched_for_stop_strings() -> None:
    tokenizer = tiny.tokenizer(["<think> one </think> two"])
    renderer = Renderer(tokenizer, chat=False, think="on")
    from divmon.sampling.stop_strings import stopped

    inside = tokenizer("<think>a\n\nb", add_special_tokens=False)["input_ids"]
    behind = tokenizer("<think>a\n\nb</think>c\n\n", add_special_tokens=False)["input_ids"]
    assert not stopped(renderer, inside, False, ("\n\n",))
    assert stopped(renderer, behind, False, ("\n\n",))


def test_a_model_whose_cache_cannot_be_shared_falls_back_to_generate(caplog: pytest.LogCaptureFixture) -> None:
    model = wide("qwen3-next")
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    sampler = Sampler(model, renderer)
    drawing = sampler.draw(requests(renderer), seed=0, step=0)
    assert sampler.name == "generate"
    assert "cache" in sampler.reason
    assert "model.generate" in caplog.text
    assert len(drawing.samples) == 16
    forced = Sampler(model, renderer, how="generate").draw(requests(renderer), seed=0, step=0)
    assert forced.samples == drawing.samples


@pytest.mark.parametrize("family", ["olmo3", "llama", "qwen3", "olmo3-lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_can_share_are_found_to(family: str, dtype: torch.dtype) -> None:
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    sampler = Sampler(wide(family).to(dtype), renderer)
    sampler.draw(requests(renderer), seed=0, step=0)
    assert (sampler.name, sampler.reason) == ("live", "greedy tokens equal to generate's")


def test_soft_prompts_fall_back_to_generate() -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(wide("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    sampler = Sampler(model, renderer)
    before = set(vars(model.base_model))
    assert len(sampler.draw(requests(renderer), seed=0, step=0).samples) == 16
    assert sampler.name == "generate"
    assert set(vars(model.base_model)) == before


def test_a_diverged_model_is_recorded_as_missing() -> None:
    model = wide("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    drawing = Sampler(model, renderer, how="live").draw(requests(renderer), seed=0, step=0)
    assert not drawing.samples
    assert len(drawing.missing) == 4
    assert all("diverged" in reason for reason in drawing.missing.values())


def test_memory_that_runs_out_halves_the_batch_and_gives_the_same_samples() -> None:
    """A real allocation failure: the process may only have so much address space."""
    script = SUPPORT / "little_memory.py"
    # Freed tensors go back to the system at once, so that the limit is on what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "halved" in done.stdout
    assert "same samples" in done.stdout
    assert "skipped with its reason" in done.stdout


def _out_of_memory(monkeypatch: pytest.MonkeyPatch, above: int, seconds: float = 0.0) -> list[tuple[int, int]]:
    """Every batch wider than `above` tokens runs out of memory; returns (rows, width) of those tried."""
    tried: list[tuple[int, int]] = []

    def decode(model: Any, batch: Any) -> Any:
        width = batch.input_ids_PL.shape[1] + int(batch.limits_R.max())
        tried.append((len(batch.limits_R), width))
        time.sleep(seconds)
        if width > above:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
        return live(model, batch)

    monkeypatch.setattr("divmon.sampling.sampler.live", decode)
    return tried


def _asked(prompts: int, samples: int = 8) -> list[Request]:
    ids = [tuple(range(3, 8 + 4 * (i % 2))) for i in range(prompts)]
    return [
        Request(RenderedPrompt("task", f"p{i:02d}", "", own), Decoding(max_new_tokens=4), samples)
        for i, own in enumerate(ids)
    ]


def test_one_sample_that_does_not_fit_settles_it_for_all_as_long_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = _out_of_memory(monkeypatch, above=10)
    sampler = Sampler(tiny.model("llama"), Renderer(tiny.tokenizer(), chat=False), how="live", max_batch_tokens=10**6)
    drawing = sampler.draw(_asked(32), seed=0, step=0)
    assert len(drawing.missing) == 16 and len(drawing.samples) == 16 * 8, "the short ones are drawn"
    assert all("a single sample" in reason for reason in drawing.missing.values())
    assert sum(width > 10 for _, width in tried) <= 12, "halved once down to one sample, and not for every prompt"
    assert sum("does not fit the memory" in record.message for record in caplog.records) == 1


def test_halving_keeps_to_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = _out_of_memory(monkeypatch, above=0, seconds=0.05)
    sampler = Sampler(
        tiny.model("llama"), Renderer(tiny.tokenizer(), chat=False), how="live", max_batch_tokens=10**6, timeout=0.12
    )
    drawing = sampler.draw(_asked(32), seed=0, step=0)
    assert len(tried) <= 4 and len(drawing.missing) == 32 and not drawing.samples
    assert any("not drawn in time" in reason for reason in drawing.missing.values())
