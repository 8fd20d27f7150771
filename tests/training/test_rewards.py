"""Verifiers as TRL reward functions, called by a real GRPOTrainer."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl
from support import tiny

from divmon.grading.verifiers import available
from divmon.training import rewards
from divmon.training.rewards import Reward, reward

ASKED = ["2 + 3?", "2 + 3?", "1 + 1?"]


def said(*texts: str) -> list[Any]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_every_verifier_is_a_reward_function_under_its_name() -> None:
    for name in available():
        function = getattr(rewards, name)
        assert function.__name__ == name
        assert pickle.loads(pickle.dumps(function)) == function
    assert set(available()) <= set(dir(rewards))
    with pytest.raises(AttributeError, match=r"no verifier named 'maths'; there are .*math_answer"):
        rewards.maths  # noqa: B018
    with pytest.raises(ValueError, match=r"no verifier named 'maths'"):
        reward("maths")


def test_plain_and_conversational_completions_get_the_same_rewards() -> None:
    texts = ["#### 5", "#### 6", "so 1 + 1"]
    turns = [[{"role": "user", "content": text}] for text in ASKED]
    columns = {"answer": ["#### 5", "#### 5", None], "completion_ids": [[1], [2], [3]], "trainer_state": object()}

    plain = rewards.math_answer(prompts=ASKED, completions=texts, **columns)
    chat = rewards.math_answer(prompts=turns, completions=said(*texts), **columns)

    assert plain == chat == [1.0, 0.0, None]


def test_the_last_thing_the_assistant_says_counts_in_parts_or_whole() -> None:
    completion = [
        {"role": "assistant", "content": "#### 6", "tool_calls": []},
        {"role": "tool", "content": "#### 7"},
        {"role": "assistant", "content": [{"type": "text", "text": "####"}, {"type": "text", "text": " 5"}]},
    ]

    assert rewards.math_answer(prompts=[ASKED[0]], completions=[completion], gold=["5"]) == [1.0]
    assert rewards.math_answer(prompts=[ASKED[0]], completions=[[]], gold=["5"]) == [0.0]


def test_reasoning_is_taken_off_and_one_that_never_ends_could_not_be_judged() -> None:
    texts = ["<think>#### 6</think>\n#### 5", "#### 6</think>#### 5", "<think>#### 5"]

    assert rewards.math_answer(prompts=ASKED, completions=texts, gold=["5"] * 3) == [1.0, 1.0, None]


def test_the_gold_column_can_be_named() -> None:
    named = reward("math_answer", gold="final")

    assert named(prompts=ASKED, completions=["#### 5"] * 3, final=[5, "5", "2"], answer=["0"] * 3) == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"no column 'final' .* there are answer"):
        named(prompts=ASKED, completions=["#### 5"] * 3, answer=["0"] * 3)
    with pytest.raises(
        ValueError, match=r"needs the reference answers: expected a column named gold, answer.* are level; "
    ):
        rewards.math_answer(prompts=ASKED, completions=["#### 5"] * 3, level=[1, 2, 3])


def test_verifiers_that_read_a_row_read_the_columns() -> None:
    columns = {"instruction_id_list": [["punctuation:no_comma"]] * 2, "kwargs": [[{}]] * 2}

    assert rewards.ifeval(prompts=ASKED[:2], completions=["one two", "one, two"], **columns) == [1.0, 0.0]


def test_a_rule_of_the_user_s_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def short(text, prompt):\n    return len(text) < 3\n")

    mine = reward(f"{path}:short")

    assert mine.__name__ == "short"
    assert mine(prompts=ASKED, completions=["a", "abc", "abcd"]) == [1.0, 0.0, 0.0]


def test_a_policy_gains_nothing_by_what_cannot_be_graded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import os\ndef rule(text, prompt):\n    os._exit(1) if text == 'crash' else None\n    return True\n"
    )
    logged: dict[str, float] = {}
    asked = {"prompts": [ASKED[0]] * 4, "completions": ["crash", "<think>on and on", "fine", "fine"]}

    left_out = reward(f"{path}:rule")(**asked, log_metric=logged.__setitem__)
    wrong = reward(f"{path}:rule", ungradable=0.0)(**asked)

    assert left_out == [None, None, 1.0, 1.0]
    assert logged == {"rule/ungradable": 0.5}
    assert wrong == [0.0, 0.0, 1.0, 1.0]
    assert "rule could not grade 2 of 4 completions (rewarded 0)" in caplog.text
    assert "its process ended (exit status 1)" in caplog.text


CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


@pytest.mark.parametrize("chat", [False, True])
def test_a_grpo_trainer_trains_on_a_verifier(chat: bool, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(["#### 5 what is 2 + 3?"], chat_template=CHAT if chat else None)
    prompt: Any = [{"role": "user", "content": "what is 2 + 3?"}] if chat else "what is 2 + 3?"
    data = datasets.Dataset.from_list([{"prompt": prompt, "answer": "#### 5", "level": n} for n in range(8)])
    right = reward("math_answer")
    drawn: list[Any] = []

    class Helped(Reward):
        """Puts the right answer under half of what an untrained model says."""

        def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
            texts = [random.Random(i).choice(["\n#### 5", "\n#### 6"]) for i in range(len(completions))]
            answers = said(*texts) if isinstance(completions[0], list) else texts
            drawn.append((completions, right(prompts, answers, **columns)))
            return drawn[-1][1]

    args = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, num_generations=4, use_cpu=True,
        max_completion_length=8, report_to="none", logging_steps=1, save_strategy="no", learning_rate=1e-3,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        tiny.model("llama", vocab_size=len(tokenizer)), reward_funcs=[Helped("math_answer"), rewards.math_answer],
        args=args, train_dataset=data, processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()

    rows = [row for row in trainer.state.log_history if "rewards/math_answer/mean" in row]
    assert len(rows) == 2
    assert len(drawn) == 2
    assert isinstance(drawn[0][0][0], list) is chat
    assert all(set(given) == {0.0, 1.0} for _, given in drawn)
