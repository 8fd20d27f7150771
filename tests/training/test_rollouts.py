"""The tap on real GRPO and RLOO runs: the run is the same run, each batch is seen once, and the figures are its own."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import rl_runs, runs
from support.runs import assert_same_run

from divmon.storage.writer import Store
from divmon.training.rollouts import Rollouts
from divmon.types import TRUNCATED, Prompt, Verdict

CHEAP: dict[str, Any] = {"metrics": "ead,duplicates", "encoder_share": None, "min_groups": 1}


def train(kind: str, out: Path, rollouts: Rollouts | None = None, folder: Path | None = None, **args: Any) -> Any:
    """A run of 8 steps, with the snapshots taken in it where it is watched."""
    taken: list[Any] = []
    random.seed(0)
    trainer = rl_runs.trainer(kind, out, [rl_runs.tap(rollouts, folder, taken)] if rollouts else [], **args)
    trainer.train()
    return (trainer, taken) if rollouts else trainer


def noisy(text: str, prompt: Prompt) -> Verdict:
    """A verifier of the user's that draws from every global generator."""
    random.random(), np.random.rand(), torch.rand(1)
    return Verdict(len(text) % 2 == 0, answer=text[:1])


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("grpo", {"rewards": rl_runs.drawn}),
        ("grpo", {"num_iterations": 2, "steps_per_generation": 2, "eval_strategy": "steps", "eval_steps": 3}),
        ("rloo", {"rewards": [rl_runs.drawn, rl_runs.parity], "gradient_accumulation_steps": 2}),
    ],
    ids=["grpo-random-reward", "grpo-iterations-and-evaluation", "rloo-accumulation"],
)
def test_the_run_is_the_same_run(tmp_path: Path, kind: str, args: dict[str, Any]) -> None:
    rollouts = Rollouts(
        metrics="ead,sbert",
        resources={"embedder": "minilm"},
        verifier=noisy,
        encoder_share=None,
        min_groups=1,
    )
    watched, taken = train(kind, tmp_path / "with", rollouts, tmp_path / "rollouts", **args)
    assert_same_run(watched, train(kind, tmp_path / "without", **args))
    assert not rollouts.failures and len(taken) >= 2
    assert {"sbert", "accuracy", "distinct_answers_at4"} <= {score.metric for score in taken[-1].scores}


class Witness:
    """A reward function that remembers what it was asked about, in training and in evaluation."""

    __name__ = "witness"

    def __init__(self) -> None:
        self.trainer: Any = None
        self.batches: dict[bool, list[list[tuple[str, str]]]] = {True: [], False: []}

    def __call__(self, prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        self.batches[self.trainer.model.training].append(list(zip(prompts, completions, strict=True)))
        return rl_runs.parity(completions)


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("grpo", {"logging_steps": 3, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 12}),
        ("grpo", {"max_steps": 4, "gradient_accumulation_steps": 4, "steps_per_generation": 2}),
        ("grpo", {"logging_steps": 1, "max_steps": 5, "steps_per_generation": 4, **EVALUATED}),
        ("rloo", {"logging_steps": 3, "num_iterations": 2, "max_steps": 6, "num_generations_eval": 2, **EVALUATED}),
    ],
    ids=["iterations", "several-batches-a-step", "evaluated-meanwhile", "other-size-in-evaluation"],
)
def test_each_generation_batch_is_seen_once_and_evaluation_never(
    tmp_path: Path, kind: str, args: dict[str, Any]
) -> None:
    witness, rollouts, taken = Witness(), Rollouts(**CHEAP), []
    trainer = rl_runs.trainer(kind, tmp_path, [rl_runs.tap(rollouts, None, taken)], rewards=witness, **args)
    witness.trainer = trainer
    trainer.train()
    asked = sorted(text for batch in witness.batches[True] for _, text in batch)
    assert sorted(sample.text for snapshot in taken for sample in snapshot.samples) == asked
    assert sum(snapshot.provenance["batches"] for snapshot in taken) == len(witness.batches[True])
    if "eval_strategy" in args:
        assert witness.batches[False]
    by_prompt: dict[str, list[str]] = {}
    for batch in witness.batches[True]:
        for prompt, text in batch:
            by_prompt.setdefault(prompt, []).append(text)
    for snapshot in taken:
        for prompt, text in snapshot.provenance["prompts"].items():
            drawn = [sample.text for sample in snapshot.samples if sample.prompt_id == prompt]
            assert len(drawn) == 4 and set(drawn) <= set(by_prompt[text])


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_the_figures_are_the_trainers_own(tmp_path: Path, kind: str) -> None:
    """Reward, share of groups without a signal and cut-off completions, against what TRL logs of the same batches."""
    trainer, taken = train(kind, tmp_path, Rollouts(**CHEAP, threshold=1.2), rewards=[rl_runs.parity, half], **WEIGHED)
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert len(taken) == len(logged) == 8
    for snapshot, row in zip(taken, logged, strict=True):
        means = {score.metric: score.mean for score in snapshot.scores}
        assert means["reward"] == pytest.approx(row["reward"], abs=1e-6)
        assert means["frac_reward_zero_std"] == pytest.approx(row["frac_reward_zero_std"])
        assert means["clipped_ratio"] == pytest.approx(row["completions/clipped_ratio"])
        assert np.mean([s.n_tokens for s in snapshot.samples]) == pytest.approx(row["completions/mean_length"])
        totals = [rl_runs.parity([s.text])[0] + 0.5 * half([s.text])[0] for s in snapshot.samples]
        spread = snapshot.score("rollouts", "reward_std").values
        assert spread == pytest.approx(np.reshape(totals, (2, 4)).std(axis=1, ddof=1))
        for sample, verdict in ((sample, sample.verdict) for sample in snapshot.samples):
            total = rl_runs.parity([sample.text])[0] + 0.5 * half([sample.text])[0]
            right = True if total > 1.2 else None if sample.finish == "length" else False
            assert verdict.correct is right and (verdict.reason == TRUNCATED) == (right is None)
    assert {s.finish for snapshot in taken for s in snapshot.samples} == {"eos", "length"}


WEIGHED = {"logging_steps": 1, "reward_weights": [1.0, 0.5]}


def half(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text) % 2) for text in completions]


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def test_conversations_and_reasoning_that_the_template_opens(tmp_path: Path) -> None:
    """The tiny model never closes the block, so nothing is answered."""
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rl_runs.PROMPTS]
    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP), rows=rows, chat_template=CHAT, max_steps=2)
    (snapshot,) = taken
    assert all(not sample.answered and sample.reasoning is not None for sample in snapshot.samples)
    assert snapshot.score("rollouts", "no_answer").mean == 1.0
    assert next(iter(snapshot.provenance["prompts"].values())).startswith("user: what is")


def failing(text: str, prompt: Prompt) -> bool:
    raise RuntimeError("no")


def test_a_verifier_gets_the_row_and_may_fail(tmp_path: Path) -> None:
    seen: list[Prompt] = []

    def answers(text: str, prompt: Prompt) -> Verdict:
        seen.append(prompt)
        return Verdict(False, answer=text)

    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP, verifier=answers), max_steps=2)
    assert {prompt.gold for prompt in seen} <= {row["answer"] for row in rl_runs.PROMPTS}
    assert all(prompt.content == rl_runs.PROMPTS[int(prompt.gold or -1)]["prompt"] for prompt in seen)
    assert taken[0].score("rollouts", "solve_none").mean == 1.0
    assert taken[0].score("rollouts", "distinct_answers_at4").n == 4
    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP, verifier=failing), max_steps=2)
    assert {sample.correct for sample in taken[0].samples} == {None}
    assert "accuracy" not in {score.metric for score in taken[0].scores}


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train("grpo", tmp_path_factory.mktemp("without"), max_steps=4)


@pytest.mark.parametrize("broken", ["noting", "reading", "drawing"])
def test_what_fails_in_the_tap_never_reaches_training(
    tmp_path: Path, broken: str, unwatched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from divmon.training import rollouts as module
    from divmon.training.rollouts import batches

    rollouts, taken = Rollouts(**CHEAP), []
    trainer = rl_runs.trainer("grpo", tmp_path, [rl_runs.tap(rollouts, tmp_path / "store", taken)], max_steps=4)
    if broken == "noting":
        monkeypatch.setattr(module, "Batch", None)
    elif broken == "reading":
        monkeypatch.setattr(batches, "_ends", lambda trainer: 1 / 0)
    else:
        monkeypatch.setattr(module.Draw, "add", lambda self, group: group.nothing)
    trainer.train()
    assert taken == [] and len(rollouts.failures) == 1
    assert_same_run(trainer, unwatched)


def test_a_full_disk_costs_the_record_and_not_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, snapshot: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Store, "write", full)
    rollouts = Rollouts(**CHEAP)
    _, taken = train("grpo", tmp_path, rollouts, tmp_path / "store", max_steps=2)
    assert len(taken) == 1 and "No space left" in rollouts.failures[0]


def test_detaching_leaves_the_trainer_as_it_was_found(tmp_path: Path) -> None:
    trainer = rl_runs.trainer("rloo", tmp_path)
    before, method = dict(vars(trainer)), trainer._calculate_rewards
    rollouts = Rollouts(**CHEAP)
    rollouts.attach(rl_runs.trainer("grpo", tmp_path))  # another run, left for this one
    rollouts.attach(trainer)
    rollouts.attach(trainer)
    assert trainer._calculate_rewards != method
    rollouts.detach()
    assert vars(trainer) == before and trainer._calculate_rewards == method

    def users(*args: Any) -> Any:
        return method(*args)

    trainer._calculate_rewards = users  # someone has wrapped it before us
    rollouts.attach(trainer)
    rollouts.detach()
    assert trainer._calculate_rewards is users
    rollouts.attach(trainer)
    ours = trainer._calculate_rewards
    trainer._calculate_rewards = lambda *args: ours(*args)  # and after us
    theirs = trainer._calculate_rewards
    rollouts.detach()
    assert trainer._calculate_rewards is theirs
    trainer.train()
    assert rollouts.take(8) is None, "detached, it lets calls through and keeps nothing"


def test_a_trainer_without_groups_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"GRPOTrainer and RLOOTrainer.*got SFTTrainer"):
        Rollouts(**CHEAP).attach(runs.sft(tmp_path))
    with pytest.raises(ValueError, match="no reward function named 'accuracy'; there are parity"):
        Rollouts(**CHEAP, threshold={"accuracy": 0.5}).attach(rl_runs.trainer("grpo", tmp_path))


def test_rewards_that_say_nothing_of_right_and_wrong(tmp_path: Path) -> None:
    lines: list[str] = []
    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP, say=lines.append), rewards=rl_runs.drawn)
    assert all(not any(s.verdict for s in snapshot.samples) for snapshot in taken) and len(lines) == 1
    assert "drawn gives more than 0 and 1" in lines[0] and "threshold" in lines[0]
    assert taken[-1].provenance["verdicts"] == "not judged"
    assert not math.isnan(taken[-1].score("rollouts", "reward").mean)
