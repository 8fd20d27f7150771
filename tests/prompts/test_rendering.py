"""What the model sees and what is kept of its answer, for the template styles in use.

The tokenizers are small ones of our own, with templates in the styles of Olmo 3 Think, Qwen 3, R1, Llama and Phi."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.templates import GENERATION, INST, OLMO_THINK, PHI, QWEN, R1, USER, text_of, tokenizer_with

from divmon.prompts.rendering import Renderer
from divmon.types import Prompt

PARTS = (  # of a multimodal model: text that is not in a list of parts is dropped without a word
    "{% for m in messages %}{{ m.role }}: {% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "<|im_end|>{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


TALK = ({"role": "system", "content": "Be kind."}, USER, {"role": "assistant", "content": "Ho."}, USER)


def test_a_text_is_one_user_turn() -> None:
    assert text_of(GENERATION, "Hi.") == "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(GENERATION, "Hi.") == text_of(GENERATION, (USER,))


def test_a_system_prompt_comes_before_prompts_that_have_none() -> None:
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"

    assert text_of(GENERATION, "Hi.", system_prompt="Be brief.").startswith(system + "<|im_start|>user")
    assert text_of(GENERATION, (USER,), system_prompt="Be brief.").startswith(system + "<|im_start|>user")
    assert text_of(GENERATION, TALK, system_prompt="Be brief.") == text_of(GENERATION, TALK)


def test_template_options_reach_the_template() -> None:
    template = "{{ mood }}" + GENERATION

    assert text_of(template, "Hi.", chat_template_kwargs={"mood": "glad"}).startswith("glad<|im_start|>")


@pytest.mark.parametrize("template", [OLMO_THINK, QWEN, R1, GENERATION, PHI, INST])
@pytest.mark.parametrize("bos", [True, False])
def test_chat_ids_are_those_of_apply_chat_template(template: str, bos: bool) -> None:
    tokenizer = tokenizer_with(template, bos=bos, ends=bos)

    rendered = Renderer(tokenizer, chat=True).render("p", Prompt("0", "Hi."))

    expected = tokenizer.apply_chat_template([USER], add_generation_prompt=True)["input_ids"]
    assert list(rendered.input_ids) == expected
    assert rendered.input_ids.count(0) == ("bos_token" in template)
    assert tokenizer.decode(expected) == rendered.text


def test_a_text_that_went_through_the_template_is_not_wrapped_again() -> None:
    tokenizer = tokenizer_with(R1, bos=True)
    renderer = Renderer(tokenizer, chat=True)
    once = renderer.render("p", Prompt("0", "Hi."))

    assert renderer.render("p", Prompt("0", once.text)) == once
    assert renderer.render("p", Prompt("0", "<|user|>Hi.<|bot|>")).text == "<bos><|user|>Hi.<|bot|>"


def test_a_template_that_wants_parts_gets_them() -> None:
    assert text_of(PARTS, "Hi.") == "user: Hi.<|im_end|>\nassistant:"
    assert Renderer(tokenizer_with(PARTS), chat=True).eos_token_ids(None) == {1, 4}


def test_a_template_that_refuses_a_prompt_is_named() -> None:
    with pytest.raises(ValueError, match=r"refused prompt '0' of 'p' \(roles: system, user\): no system role"):
        text_of(INST, "Hi.", system_prompt="Be brief.")


def test_a_plain_text_stays_as_it_is() -> None:
    assert text_of(None, "Question: 1 + 1?\n\nAnswer:", chat=False) == "Question: 1 + 1?\n\nAnswer:"
    assert text_of(None, (USER,), chat=False) == "Hi."


def test_a_conversation_in_plain_text_is_written_out() -> None:
    assert text_of(None, TALK, chat=False) == "System: Be kind.\nUser: Hi.\nAssistant: Ho.\nUser: Hi.\nAssistant:"


@pytest.mark.parametrize("text", ["Hi.", "<bos>Hi.", "<bos><bos>Hi."])
@pytest.mark.parametrize("ends", [True, False])
def test_plain_text_gets_one_bos_and_no_eos(text: str, ends: bool) -> None:
    tokenizer = tokenizer_with(bos=True, ends=ends)

    rendered = Renderer(tokenizer, chat=False).render("p", Prompt("0", text))

    assert list(rendered.input_ids) == [0, *tokenizer("Hi.", add_special_tokens=False)["input_ids"]]
    assert rendered.text.endswith("<bos>Hi.")


def test_an_eos_of_the_text_itself_stays() -> None:
    ids = Renderer(tokenizer_with(ends=True), chat=False).render("p", Prompt("0", "a<eos>")).input_ids

    assert ids[-1] == 1 and ids.count(1) == 1


@given(text=st.text(min_size=1, max_size=20), bos=st.booleans(), ends=st.booleans())
def test_any_plain_text_keeps_its_tokens(text: str, bos: bool, ends: bool) -> None:
    tokenizer = tokenizer_with(bos=bos, ends=ends)

    ids = Renderer(tokenizer, chat=False).render("p", Prompt("0", text)).input_ids

    assert list(ids) == [0] * bos + tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("chat", [True, False])
def test_token_ids_are_taken_as_they_are(chat: bool) -> None:
    tokenizer = tokenizer_with(OLMO_THINK, bos=True)
    ids = tuple(tokenizer("Hi.<think>", add_special_tokens=False)["input_ids"])

    rendered = Renderer(tokenizer, chat=chat, think="off").render("p", Prompt("0", ids))

    assert (rendered.input_ids, rendered.text, rendered.in_reasoning) == (ids, "Hi.<think>", True)
