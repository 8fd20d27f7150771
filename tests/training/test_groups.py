"""Groups apart from a trainer: which are drawn, what their texts are, and what makes one of them correct."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.training.rollouts.groups import Draw, Group, as_prompt, samples, text_of
from divmon.training.rollouts.verdicts import ELSEWHERE, GroupJudge
from divmon.types import TRUNCATED, Finish


def group(
    prompt: Any = "2+2?",
    completions: Any = ("4", "5"),
    rewards: Any = ((1.0,), (0.0,)),
    finish: Finish = "eos",
    row: Any = None,
) -> Group:
    return Group(prompt, completions, rewards, [finish] * len(completions), [3] * len(completions), row)


@given(st.permutations([f"prompt {i}" for i in range(12)]), st.integers(1, 14))
def test_the_draw_is_of_prompts_whatever_their_order(prompts: list[str], most: int) -> None:
    """A larger draw holds the smaller one, and a second window of the same prompts the same."""
    draw, whole = Draw(most, seed=3), Draw(99, seed=3)
    windows = []
    for _ in range(2):
        for prompt in prompts:
            draw.add(group(prompt))
        windows.append(draw.take())
    for prompt in sorted(prompts):
        whole.add(group(prompt))
    everything = whole.take()
    assert list(windows[0].by_id) == list(windows[1].by_id) == list(everything.by_id)[:most]
    assert windows[0].seen == 12 and everything.seen == 12


def test_a_prompt_that_comes_again_in_a_window_is_another_group() -> None:
    draw = Draw(10, seed=0)
    for completion in ("4", "5", "6"):
        draw.add(group("the same", [completion]))
    by_id = draw.take().by_id
    first = next(iter(sorted(by_id, key=len)))
    assert set(by_id) == {first, f"{first}-2", f"{first}-3"}
    assert {by_id[id].completions[0] for id in by_id} == {"4", "5", "6"}


def test_texts_of_conversations_with_tools_and_pictures() -> None:
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}, "say"]}]
    tools = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look"}}]},
        {"role": "tool", "content": "a cat"},
        {"role": "assistant", "content": "A cat."},
    ]
    assert text_of(prompt) == "user: (image)what is it?say" and text_of(tools, last=True) == "A cat."
    assert text_of([{"role": "tool", "content": "a cat"}], last=True) == ""
    asked = as_prompt("id", group(prompt, row={"prompt": prompt, "answer": 7, "gold": True, "hard": True}))
    assert asked.gold == "7" and asked.row == {"answer": 7, "gold": True, "hard": True}
    assert asked.content == ({"role": "user", "content": "(image)what is it?say"},)


@pytest.mark.parametrize(
    ("prompt", "completion", "opens", "expected"),
    [
        ("2+2?", "<think>two</think>4", False, ("4", "two", True)),
        ("2+2?<think>\n", "two</think>4", False, ("4", "two", True)),
        ("2+2?<think>\n", "two and", False, ("", "two and", False)),
        ([], [{"role": "assistant", "content": "two and"}], True, ("", "two and", False)),
        ([], [{"role": "assistant", "content": "4"}], False, ("4", None, True)),
        ([], [{"role": "assistant", "content": "4", "reasoning_content": "two"}], True, ("4", "two", True)),
        ([], [{"role": "assistant", "content": "", "thinking": "two and"}], True, ("", "two and", False)),
    ],
)
def test_answers_apart_from_reasoning(prompt: Any, completion: Any, opens: bool, expected: tuple[Any, ...]) -> None:
    (sample,) = samples("id", group(prompt, [completion], [[1.0]]), opens)
    assert (sample.text, sample.reasoning, sample.answered) == expected


def judged(judge: GroupJudge, *groups: Group) -> list[list[bool | None]]:
    drawn = [samples(str(i), one) for i, one in enumerate(groups)]
    prompts = [as_prompt(str(i), one) for i, one in enumerate(groups)]
    rewards = [np.array(one.rewards, dtype=float) for one in groups]
    return [[verdict.correct for verdict in row] for row in judge(groups, rewards, drawn, prompts)]


def test_thresholds_of_the_total_and_of_one_function() -> None:
    two = group(rewards=[[1.0, 0.0], [0.0, 1.0]])
    assert judged(GroupJudge(["right", "form"], [1.0, 0.5], threshold=0.6), two) == [[True, False]]
    assert judged(GroupJudge(["right", "form"], [1.0, 0.5], threshold=0.4), two) == [[True, True]]
    assert judged(GroupJudge(["right", "form"], threshold={"form": 0.5}), two) == [[False, True]]
    assert judged(GroupJudge(["right", "form"], threshold={"form": 0.5, "right": 0.5}), two) == [[False, False]]
    assert judged(GroupJudge(["r"], threshold=0.0), group(rewards=[[math.nan], [0.1]])) == [[None, True]]


def test_a_threshold_wins_over_a_verifier_and_a_verifier_over_rewards() -> None:
    def wrong(text: str, prompt: Any) -> bool:
        return False

    row = {"answer": "4"}
    assert judged(GroupJudge(["r"], threshold=0.5, verifier=wrong), group(row=row)) == [[True, False]]
    assert judged(GroupJudge(["r"], verifier=wrong), group(row=row), group()) == [[False, False], [None, None]]
    assert "another process" in ELSEWHERE.reason


def test_one_reward_of_0_or_1_tells_whatever_its_weight_until_it_is_something_else() -> None:
    lines: list[str] = []
    judge = GroupJudge(["r"], [0.1], say=lines.append)
    assert judged(judge, group()) == [[True, False]] and "0 or 1" in judge.how
    assert judged(judge, group(rewards=[[0.5], [1.0]])) == [] and judge.how == "not judged"
    assert judged(judge, group()) == [] and len(lines) == 1 and "0.5, say" in lines[0]


def test_cut_off_with_a_low_reward_is_not_wrong_and_with_a_high_one_right() -> None:
    judge = GroupJudge(["r"])
    assert judged(judge, group(finish="length")) == [[True, None]]
    assert judged(judge, group(finish="unknown")) == [[True, False]], "nobody knows that it was cut off"
    one = group(finish="length")
    (verdicts,) = judge([one], [np.array(one.rewards)], [samples("0", one)], [as_prompt("0", one)])
    assert verdicts[1].reason == TRUNCATED
