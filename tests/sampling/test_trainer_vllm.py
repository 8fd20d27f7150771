"""The trainer's vLLM: TRL's own objects, with a stand-in only for what they import from vLLM."""

from __future__ import annotations

import collections
import contextlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy import stats
from support import SUPPORT, TESTS, runs, tiny, vllm_stand_in
from support.scripted import Reply, serving
from support.vllm_stand_in import Client, Engine, Generation, answer
from transformers import TrainerCallback
from trl.generation import vllm_client, vllm_generation

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.completions import seed_of
from divmon.sampling.engines.trainer_vllm import SETTINGS, TrainerVLLM
from divmon.types import Decoding, Prompt

SET_BY_THE_TRAINER = {"temperature": 0.33, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "generation_kwargs": {"seed": 5}}


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_generation, "SamplingParams", vllm_stand_in.SamplingParams, raising=False)
    monkeypatch.setattr(vllm_client, "is_vllm_available", lambda *a, **k: True)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny.tokenizer(), chat=False)


def trainer(renderer: Renderer, **vllm: Any) -> Any:
    """As much of a trainer as the engine reads, around a real `VLLMGeneration`."""
    model = tiny.model("llama", vocab_size=400)
    generation = Generation(model, Accelerator(cpu=True), renderer.tokenizer, **{**SET_BY_THE_TRAINER, **vllm})
    state = SimpleNamespace(global_step=3)
    return SimpleNamespace(model=model, vllm_generation=generation, state=state, _last_loaded_step=-1)


def requests(renderer: Renderer, prompts: int = 3, samples: int = 4, **decoding: Any) -> list[Request]:
    asked = [Prompt(f"p{i}", f"what is {'one ' * i}plus two?") for i in range(prompts)]
    limits = {"max_new_tokens": 6, "temperature": 1.0, "top_p": 1.0, **decoding}
    return [Request(renderer.render("sums", p), Decoding(**limits), samples) for p in asked]


def draw(engine: TrainerVLLM, asked: list[Request], seed: int = 0, step: int = 3) -> Drawing:
    return engine.draw(asked, seed=seed, step=step)


# -- what TRL must have


def test_every_setting_is_an_attribute_that_trl_is_given_and_draws_by(renderer: Renderer) -> None:
    given = inspect.signature(vllm_generation.VLLMGeneration.__init__).parameters
    source = inspect.getsource(vllm_generation.VLLMGeneration.generate)
    made = trainer(renderer).vllm_generation
    for name in SETTINGS:
        assert name in given
        assert f"self.{name}" in source
        assert hasattr(made, name)
    # And nothing else that TRL is given decides how it samples.
    generation = list(given)[list(given).index("repetition_penalty") :]
    assert set(generation) | {"structured_outputs_regex"} == set(SETTINGS)


@pytest.mark.parametrize("method", ["update_named_params", "init_communicator", "reset_prefix_cache"])
def test_the_stand_in_has_trls_signatures(method: str) -> None:
    ours, trls = (inspect.signature(getattr(kind, method)).parameters for kind in (Client, vllm_client.VLLMClient))
    assert len(ours) == len(trls)


def test_trainers_without_such_a_vllm_are_named(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="there is no trainer"):
        TrainerVLLM(None, renderer)
    with pytest.raises(ValueError, match="this SFTTrainer has none: set use_vllm=True"):
        TrainerVLLM(type("SFTTrainer", (), {})(), renderer)
    with pytest.raises(ValueError, match="has no vllm_generation; upgrade TRL"):
        TrainerVLLM(SimpleNamespace(use_vllm=True, llm=object()), renderer)
    old = trainer(renderer)
    del old.vllm_generation.min_p
    with pytest.raises(ValueError, match=r"sets min_p of the trainer's vLLM, which TRL [\d.]+ has not"):
        TrainerVLLM(old, renderer)
    on_schedule = trainer(renderer)
    del on_schedule._last_loaded_step
    with pytest.raises(ValueError, match="on a schedule of its own"):
        TrainerVLLM(on_schedule, renderer)


# -- one process, colocated


def test_the_weights_are_sent_once_and_everything_is_put_back(renderer: Renderer) -> None:
    made = trainer(renderer)
    vllm = made.vllm_generation
    before = {name: getattr(vllm, name) for name in SETTINGS}
    engine = TrainerVLLM(made, renderer)
    assert len(draw(engine, requests(renderer)).samples) == 12
    assert (vllm.llm.loads, made._last_loaded_step) == (1, 3)
    draw(engine, requests(renderer, temperature=0.5))
    assert vllm.llm.loads == 1
    made.state.global_step = 4
    draw(engine, requests(renderer))
    assert (vllm.llm.loads, made._last_loaded_step) == (2, 4)
    assert all(getattr(vllm, name) is value for name, value in before.items())
    assert "generate" not in vars(vllm.llm)


def test_settings_come_back_after_a_failure(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(renderer)
    before = {name: getattr(made.vllm_generation, name) for name in SETTINGS}
    monkeypatch.setattr(Engine, "_one", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(TrainerVLLM(made, renderer), requests(renderer))
    assert all(getattr(made.vllm_generation, name) is value for name, value in before.items())
    assert "generate" not in vars(made.vllm_generation.llm)
    monkeypatch.setattr(made.vllm_generation, "sync_weights", lambda: 1 / 0)
    made.state.global_step = 4
    with pytest.raises(RuntimeError, match="could not be sent to the trainer's vLLM: ZeroDivisionError"):
        draw(TrainerVLLM(made, renderer), requests(renderer))
    assert made._last_loaded_step == 3


def test_what_vllm_is_asked(renderer: Renderer) -> None:
    made = trainer(renderer)
    draw(TrainerVLLM(made, renderer), requests(renderer, temperature=0.7, top_p=0.9, stop=("\n",)))
    asked = made.vllm_generation.llm.requests
    assert len({params.seed for params in asked}) == len(asked) == 12
    for params in asked:
        assert params == vllm_stand_in.SamplingParams(
            temperature=0.7, top_p=0.9, max_tokens=6, stop=["\n"], stop_token_ids=[2], seed=params.seed
        )


def test_samples_depend_on_seed_step_prompt_and_number_alone(renderer: Renderer) -> None:
    asked, engine = requests(renderer), TrainerVLLM(trainer(renderer), renderer)
    whole = draw(engine, asked).samples
    assert [(s.prompt_id, s.index) for s in whole] == [(f"p{i}", k) for i in range(3) for k in range(4)]
    assert len({(s.text, s.n_tokens) for s in whole}) > 9
    assert draw(engine, asked[::-1]).samples == [s for r in asked[::-1] for s in whole if s.prompt_id == r.prompt.id]
    assert draw(engine, asked[1:2]).samples == whole[4:8]
    assert [s.text for s in draw(engine, asked, seed=1).samples] != [s.text for s in whole]
    assert [s.text for s in draw(engine, asked, step=4).samples] != [s.text for s in whole]


def test_first_tokens_follow_the_trained_models_distribution(renderer: Renderer) -> None:
    n, made = 500, trainer(renderer)
    request = requests(renderer, prompts=1, samples=n, max_new_tokens=1)[0]
    with torch.no_grad():
        probs = torch.softmax(made.model(torch.tensor([request.prompt.input_ids])).logits[0, -1].double(), -1)
    expected: dict[str, float] = collections.defaultdict(float)
    for token, p in enumerate(probs.tolist()):
        expected[renderer.tokenizer.decode([token], skip_special_tokens=True)] += p
    seen = collections.Counter(s.text for s in draw(TrainerVLLM(made, renderer), [request]).samples)
    common = [text for text, p in expected.items() if p * n >= 5]
    theory = np.array([expected[text] * n for text in common])
    observed = np.array([seen[text] for text in common] + [n - sum(seen[text] for text in common)])
    assert len(common) > 8
    assert stats.chisquare(observed, np.append(theory, n - theory.sum())).pvalue > 1e-4


def test_sleep_is_respected_also_over_two_rounds(renderer: Renderer) -> None:
    made = trainer(renderer, enable_sleep_mode=True)
    other = Request(renderer.render("other", Prompt("q", "it is")), Decoding(3, 0.5, 1.0), 2)
    asked = [*requests(renderer, prompts=2), other]
    drawing = draw(TrainerVLLM(made, renderer), asked)
    assert len(drawing.samples) == 10 and not drawing.missing
    assert made.vllm_generation._llm_weights_sleeping and not made.vllm_generation.llm.awake
    awake = draw(TrainerVLLM(trainer(renderer), renderer), asked)
    assert awake == drawing


def test_greedy_ends_stops_and_counts(renderer: Renderer) -> None:
    engine = TrainerVLLM(trainer(renderer), renderer)
    cold = draw(engine, requests(renderer, temperature=0.0)).samples
    assert len(cold) == 12
    assert all(len({s.text for s in cold if s.prompt_id == f"p{i}"}) == 1 for i in range(3))
    samples = draw(engine, requests(renderer, prompts=1, samples=30, max_new_tokens=12, stop=("e", "r", "t"))).samples
    finishes = collections.Counter(s.finish for s in samples)
    assert finishes["stop"] > 5 and finishes["length"] > 1
    assert not any(set(s.text) & set("ert") for s in samples)
    assert all(s.n_tokens == 12 for s in samples if s.finish == "length")
    drawn = draw(engine, requests(renderer, prompts=1, samples=50, max_new_tokens=12)).samples
    ended = [s for s in drawn if s.finish == "eos"]
    assert ended and all(s.n_tokens <= 12 and "<eos>" not in s.text for s in ended)


def test_a_stop_string_is_not_vllms_where_reasoning_would_meet_it(renderer: Renderer) -> None:
    made = trainer(renderer)
    thinking = Request(renderer.render("sums", Prompt("t", "what is <think>")), Decoding(4, stop=("\n",)), 2)
    draw(TrainerVLLM(made, renderer), [thinking])
    assert all(params.stop == [] for params in made.vllm_generation.llm.requests)


def test_what_does_not_fit_the_context_is_missing(renderer: Renderer) -> None:
    made = trainer(renderer, max_model_length=12)
    drawing = draw(TrainerVLLM(made, renderer), requests(renderer))
    assert {s.prompt_id for s in drawing.samples} == {"p0", "p1"}
    (reason,) = drawing.missing.values()
    assert "do not fit into the trainer's vLLM, which holds 12: raise vllm_max_model_length" in reason


# -- a real trainer


class Draws(TrainerCallback):
    """Draws after every step, as a monitor would."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer, self.trainer, self.drawn = renderer, None, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        asked = requests(self.renderer, prompts=2, samples=2)
        drawing = TrainerVLLM(self.trainer, self.renderer).draw(asked, seed=0, step=state.global_step)
        assert not drawing.missing
        self.drawn += len(drawing.samples)


@pytest.mark.parametrize("sleep", [False, True], ids=["awake", "sleep"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_grpo_is_the_same_run_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool, sleep: bool) -> None:
    """Weights, rewards and log rows bit for bit, though it sends weights at steps at which the trainer does not."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer import grpo_trainer

    monkeypatch.setattr(grpo_trainer, "VLLMGeneration", Generation)
    renderer = Renderer(tiny.tokenizer(runs.TEXTS), chat=False)

    def train(callbacks: list[Draws]) -> Any:
        torch.manual_seed(0)
        args = GRPOConfig(
            output_dir=str(tmp_path),
            use_vllm=True,
            vllm_mode="colocate",
            vllm_enable_sleep_mode=sleep,
            per_device_train_batch_size=4,
            num_generations=4,
            steps_per_generation=2,
            max_completion_length=6,
            max_steps=4,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
        )
        made = GRPOTrainer(
            runs.model("llama", tie_word_embeddings=False),
            reward_funcs=lambda completions, **_: [float(len(set(c))) for c in completions],
            args=args,
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in runs.ROWS]),
            processing_class=tiny.tokenizer(runs.TEXTS),
            callbacks=callbacks,
            peft_config=LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False) if lora else None,
        )
        for callback in callbacks:
            callback.trainer = made
        made.train()
        return made

    alone, watch = train([]), Draws(renderer)
    watched = train([watch])
    assert watch.drawn == 4 * 4
    assert watched.vllm_generation.llm.loads > alone.vllm_generation.llm.loads
    before, after = runs.weights(alone), runs.weights(watched)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert runs.log_rows(alone) == runs.log_rows(watched)
    assert any(row.get("grad_norm") for row in runs.log_rows(alone)), "a run that learns nothing proves nothing"


# -- server mode


@pytest.fixture
def served(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A trainer whose vLLM is a server, asked by TRL's own client over HTTP."""
    refused: list[list[int]] = []

    def script(body: dict[str, Any]) -> Reply:
        if any(prompt in refused for prompt in body["prompt"]):
            return Reply({"error": {"message": "too long for this server"}}, 400)
        return Reply(answer(engine, body))

    with serving({"/v1/completions": script, "/v1/models": ["m"], "/health": []}) as seen:
        client = Client(base_url=seen.url)
        monkeypatch.setattr(Generation, "client", client)
        made = trainer(renderer, mode="server")
        client.engine = engine = Engine(made.model, renderer.tokenizer)
        yield lambda: SimpleNamespace(trainer=made, engine=engine, refused=refused, bodies=seen.bodies)


def test_a_server_is_asked_a_prompt_at_a_time_with_its_own_seed(renderer: Renderer, served: Any) -> None:
    setting, asked = served(), requests(renderer)
    engine = TrainerVLLM(setting.trainer, renderer)
    drawing = draw(engine, asked)
    assert len(drawing.samples) == 12 and not drawing.missing
    assert len({(s.text, s.n_tokens) for s in drawing.samples}) > 9
    assert {body["seed"] for body in setting.bodies} == {seed_of(0, 3, "sums", f"p{i}") for i in range(3)}
    assert all(body["n"] == 4 and len(body["prompt"]) == 1 and body["top_k"] == 0 for body in setting.bodies)
    assert setting.engine.loads == 1
    assert draw(engine, asked[1:2]).samples == drawing.samples[4:8]
    assert setting.trainer.vllm_generation.temperature == SET_BY_THE_TRAINER["temperature"]
    assert "generate" not in vars(setting.trainer.vllm_generation.vllm_client)
    cold = draw(engine, requests(renderer, temperature=0.0)).samples
    assert all(len({s.text for s in cold if s.prompt_id == f"p{i}"}) == 1 for i in range(3))


def test_a_prompt_that_the_server_refuses_is_missing_and_the_others_go_on(renderer: Renderer, served: Any) -> None:
    setting, asked = served(), requests(renderer)
    setting.refused.append(list(asked[1].prompt.input_ids))
    drawing = draw(TrainerVLLM(setting.trainer, renderer), asked)
    assert {s.prompt_id for s in drawing.samples} == {"p0", "p2"}
    (reason,) = drawing.missing.values()
    assert "too long for this server" in reason


@pytest.mark.slow
def test_two_processes_with_uneven_shares(tmp_path: Path, renderer: Renderer) -> None:
    """Three prompts in one process and none in the other, then two and one: no hang, and the same samples each time."""
    script = SUPPORT / "vllm_ranks.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS / "sampling")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    process = subprocess.Popen(
        [*command, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=200)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said[-3000:]
    alone = draw(TrainerVLLM(trainer(renderer), renderer), requests(renderer)).samples
    for mode in ("server", "colocate"):
        drawn = {
            shares: [torch.load(tmp_path / f"{mode}-{shares}-{rank}.pt", weights_only=False) for rank in (0, 1)]
            for shares in ("3-0", "2-1")
        }
        assert [len(d.samples) for parts in drawn.values() for d in parts] == [12, 0, 8, 4]
        first, second = ([s for d in parts for s in d.samples] for parts in drawn.values())
        assert first == second
        if mode == "colocate":
            assert first == alone
