"""Where reasoning begins and ends, by template or by tags."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.templates import GENERATION, OLMO_THINK, QWEN, R1, TURNS, ids_of, text_of, tokenizer_with

from divmon.prompts.rendering import Renderer, Think, split_reasoning
from divmon.types import Prompt

BARE_SWITCH = TURNS + (
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "think", "end", "in_reasoning", "reasons"),
    [
        (OLMO_THINK, "auto", "assistant\n<think>", True, True),
        (OLMO_THINK, "off", "assistant\n<think>\n</think>\n", False, False),
        (OLMO_THINK, "on", "assistant\n<think>", True, True),
        (R1, "auto", "<|bot|><think>\n", True, True),
        (R1, "off", "<|bot|><think>\n</think>\n", False, False),
        (QWEN, "auto", "assistant\n", False, True),
        (QWEN, "on", "assistant\n", False, True),
        (QWEN, "off", "assistant\n<think>\n\n</think>\n\n", False, False),
        (BARE_SWITCH, "auto", "assistant\n<think>\n", True, True),
        (BARE_SWITCH, "off", "assistant\n", False, False),
        (GENERATION, "auto", "assistant\n", False, False),
        (GENERATION, "on", "assistant\n", False, True),
        (GENERATION, "off", "assistant\n<think>\n</think>\n", False, False),
    ],
)
def test_reasoning_by_template(template: str, think: Any, end: str, in_reasoning: bool, reasons: bool) -> None:
    renderer = Renderer(tokenizer_with(template), chat=True, think=think)

    rendered = renderer.render("p", Prompt("0", "Hi."))

    assert rendered.text.endswith(end) and rendered.text.count("<think>") == end.count("<think>")
    assert rendered.in_reasoning == in_reasoning
    assert renderer.reasons == reasons
    assert (renderer.think is None) == (template == GENERATION and think == "auto")


def test_a_comment_in_a_template_does_not_speak_of_reasoning() -> None:
    renderer = Renderer(
        tokenizer_with("{#- unlike qwen3: no <think>,\n no enable_thinking -#}" + GENERATION), chat=True
    )

    assert (renderer.think, renderer.reasons) == (None, False)


def test_a_template_told_not_to_think_is_not_expected_to() -> None:
    renderer = Renderer(tokenizer_with(QWEN), chat=True, chat_template_kwargs={"enable_thinking": False})

    assert not renderer.reasons


@pytest.mark.parametrize("left", ["<think>", "<think>\n", "<think>\n\n", "<think> "])
def test_of_an_open_block_only_what_is_missing_is_prefilled(left: str) -> None:
    text = text_of(None, f"1 + 1? {left}", chat=False, think="off")

    assert text.startswith(f"1 + 1? {left}") and text.endswith("</think>\n")
    assert "".join(text.split()) == "1+1?<think></think>"


def test_plain_text_does_not_expect_reasoning_unless_told() -> None:
    assert not Renderer(tokenizer_with(QWEN), chat=False).reasons
    assert Renderer(tokenizer_with(QWEN), chat=False, think="on").reasons
    assert text_of(QWEN, "1 + 1?", chat=False, think="off") == "1 + 1?<think>\n</think>\n"


def test_tags_of_one_s_own() -> None:
    own = Think("[THINK]", "[/THINK]", "[THINK][/THINK]")
    renderer = Renderer(tokenizer_with(GENERATION), chat=True, think=own)

    assert (renderer.think, renderer.reasons) == (own, True)
    assert text_of(GENERATION, "Hi.", think=Think("[T]", "[/T]", "[T][/T]", mode="off")).endswith("\n[T][/T]")


@pytest.mark.parametrize("tags", [None, False, True])
@pytest.mark.parametrize(
    ("completion", "in_reasoning", "expected"),
    [
        ("It is 4.<|im_end|>", False, ("It is 4.", None, True)),
        ("<think>2 + 2</think>\n\nIt is 4.<eos>", False, ("It is 4.", "2 + 2", True)),
        ("\n<think>\n2 + 2\n</think>It is 4.", False, ("It is 4.", "2 + 2", True)),
        ("2 + 2</think>It is 4.", True, ("It is 4.", "2 + 2", True)),
        ("<think>2 + 2</think>It is 4.", True, ("It is 4.", "2 + 2", True)),
        ("2 + 2</think>It is 4.", False, ("It is 4.", "2 + 2", True)),
        ("</think>It is 4.", False, ("It is 4.", "", True)),
        ("2 + 2, so", True, ("", "2 + 2, so", False)),
        ("<think>2 + 2, so", False, ("", "2 + 2, so", False)),
        ("<think>2 + 2</think>", False, ("", "2 + 2", True)),
        ("a</think>b</think>c", True, ("b</think>c", "a", True)),
        ("Use <think>x</think> tags.", False, ("Use <think>x</think> tags.", None, True)),
        ("", True, ("", "", False)),
        ("", False, ("", None, True)),
    ],
)
def test_the_reasoning_is_split_off(tags: bool | None, completion: str, in_reasoning: bool, expected: Any) -> None:
    tokenizer = tokenizer_with(QWEN, tags=tags)

    assert Renderer(tokenizer, chat=True).split(ids_of(tokenizer, completion), in_reasoning) == expected


def test_reasoning_is_split_off_where_no_template_speaks_of_it() -> None:
    tokenizer = tokenizer_with()

    split = Renderer(tokenizer, chat=False).split(ids_of(tokenizer, "<think>a</think>b<pad>"), False)

    assert split == ("b", "a", True)


TAGLESS = st.text(alphabet=st.characters(exclude_characters="<"), max_size=20)


@given(before=TAGLESS, after=st.text(max_size=20), in_reasoning=st.booleans())
def test_a_split_loses_only_tags_and_space(before: str, after: str, in_reasoning: bool) -> None:
    assert split_reasoning(f"<think>{before}</think>{after}", Think(), in_reasoning) == (
        after.lstrip(),
        before.strip(),
        True,
    )


@given(text=TAGLESS)
def test_a_text_without_tags_is_left_alone(text: str) -> None:
    assert split_reasoning(text, Think(), in_reasoning=False) == (text, None, True)
