"""The folder of rules is the registry; rules of the user's own, TRL reward functions among them, are named alike."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from divmon.grading import verifiers
from divmon.types import Prompt, Verdict

PROMPT = Prompt("1", "What is 2 + 3?", gold="5", row={"question": "What is 2 + 3?", "steps": 1})
CHAT = Prompt("1", ({"role": "user", "content": "What is 2 + 3?"},), gold="5")


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def test_the_folder_is_the_registry() -> None:
    assert {"math_answer", "ifeval", "ifeval_loose", "truthfulqa", "python_tests"} <= set(verifiers.available())
    assert not any(name.startswith("_") for name in verifiers.available())


@pytest.mark.parametrize("name", verifiers.available())
def test_every_file_keeps_the_contract(name: str) -> None:
    verifier = verifiers.load(name)

    parameters = list(inspect.signature(verifier.function).parameters)
    assert parameters[:2] == (["texts", "prompts"] if verifier.batch else ["text", "prompt"])
    assert inspect.getdoc(verifier.function)
    if not verifier.batch:
        for text in ("", "\x00\ud800", "a" * 10_000):
            verdict = verifier(text, Prompt("1", "?"))
            assert verdict.correct is None, "nothing to judge by is not wrong"
            assert verdict.reason


def test_an_unknown_name_lists_the_rules_and_the_other_forms() -> None:
    with pytest.raises(ValueError, match=r"no verifier named 'math'; there are .*math_answer.*'file.py:function'"):
        verifiers.load("math")


def test_a_function_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "def long(text, prompt):\n    return len(text) > 3\n")

    verifier = verifiers.load(f"{path}:long")

    assert verifier.name == f"{path}:long"
    assert verifier("long", PROMPT) == Verdict(True)
    assert verifier("no", PROMPT) == Verdict(False)


def test_a_callable_and_what_it_may_return() -> None:
    assert verifiers.load(lambda text, prompt: text == prompt.gold)("5", PROMPT).correct is True
    assert verifiers.load(lambda text, prompt: None)("5", PROMPT).correct is None
    verdict = Verdict(False, "because", "4")
    assert verifiers.load(lambda text, prompt: verdict)("4", PROMPT) is verdict
    assert verifiers.load(lambda text, prompt, complete: complete)("4", PROMPT, False).correct is False
    with pytest.raises(TypeError, match=r"returned 0.5; expected a Verdict, True, False or None"):
        verifiers.load(lambda text, prompt: 0.5)("4", PROMPT)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "none.py:f", "no file"),
        ("x = 1\ndef g(text, prompt): ...", ":f", "no function 'f'; it has g"),
        ("1 / 0", ":f", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, name: str, message: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ValueError, match=rf"verifier '.*': .*{message}"):
        verifiers.load(f"{path}{name}" if name.startswith(":") else str(tmp_path / name))


def test_the_running_script_is_not_imported_a_second_time(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "from divmon.grading import verifiers\ndef rule(text, prompt): return True\nprint('once')\n"
        "try:\n    verifiers.load(__file__ + ':rule')\nexcept ValueError as error:\n    print(error)\n",
    )
    env = os.environ | {"PYTHONPATH": str(Path(verifiers.__file__).parents[3])}

    done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True, check=True)

    assert done.stdout.count("once") == 1
    assert "is the script that is running" in done.stdout


# TRL reward functions, as they are


def matches(completions: list[Any], answer: list[str], **kwargs: Any) -> list[float]:
    return [1.0 if text == gold else 0.0 for text, gold in zip(completions, answer, strict=True)]


def test_a_reward_function_reads_the_row_s_columns_and_the_gold() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [0.7]

    verdict = verifiers.load(reward)("4", PROMPT)

    assert verdict.correct is True and verdict.reason == "reward 0.7, correct above 0.5"
    assert (seen["prompts"], seen["completions"]) == (["What is 2 + 3?"], ["4"])
    assert (seen["steps"], seen["answer"], seen["solution"]) == ([1], ["5"], ["5"])
    assert verifiers.load(matches)("5", PROMPT).correct is True
    assert verifiers.load(matches)("4", PROMPT).correct is False


def test_a_conversation_is_handed_over_as_messages_and_so_is_a_text_where_they_are_expected() -> None:
    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [float(completion[0]["content"] == "5") for completion in completions]

    for prompt in (CHAT, PROMPT):
        assert verifiers.load(reward)("5", prompt).correct is True
        assert verifiers.load(reward)("4", prompt).correct is False
        assert verifiers.load(reward)("", prompt).correct is False


def test_trl_s_own_accuracy_reward() -> None:
    from trl.rewards import accuracy_reward

    for prompt in (CHAT, PROMPT):
        assert verifiers.load(accuracy_reward)("\\boxed{5}", prompt).correct is True
        assert verifiers.load(accuracy_reward)("\\boxed{4}", prompt).correct is False


@pytest.mark.parametrize(
    ("reward", "correct"), [(None, None), (math.nan, None), (0.5, False), (0.51, True), (-1, False)]
)
def test_a_reward_above_the_threshold_is_correct_and_none_is_not_judged(reward: Any, correct: bool | None) -> None:
    assert verifiers.load(lambda completions: [reward])("4", PROMPT).correct is correct


def test_the_threshold_may_follow_the_name(tmp_path: Path) -> None:
    path = written(tmp_path, "def length(completions, **kwargs):\n    return [len(c) for c in completions]\n")

    assert verifiers.load(f"{path}:length")("a", PROMPT).correct is True
    strict = verifiers.load(f"{path}:length>2.5")
    assert [strict(text, PROMPT).correct for text in ("a", "ab", "abc")] == [False, False, True]
    assert verifiers.load(f"{path}:length > -1")("", PROMPT).correct is True


def test_a_reward_function_that_returns_something_else_is_named() -> None:
    with pytest.raises(TypeError, match=r"returned \[1, 2\]; expected a list of one number"):
        verifiers.load(lambda completions: [1, 2])("4", PROMPT)


def test_rules_of_ours_load_without_the_libraries_they_use() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'sympy', 'math_verify', 'py3langid', 'numpy'} & set(sys.modules)"
    load = "import sys; from divmon.grading import verifiers as v; [v.load(n) for n in v.available()]"
    code = f"{load}; print(sorted({heavy}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
