"""What the model sees and what is kept of its answer, for the template styles in use.

The tokenizers are small ones of our own, with templates in the styles of Olmo 3 Think, Qwen 3, R1, Llama and Phi.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from support import tiny
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from divmon.prompts.rendering import Renderer, Think, own_tokenizer, prompt_form, split_reasoning
from divmon.types import Prompt

SPECIAL = ["<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|bot|>"]

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
OLMO_THINK = (
    TURNS + "{% if m.role == 'assistant' and loop.last %}{{ eos_token }}{% else %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)
QWEN = (
    TURNS + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
BARE_SWITCH = TURNS + (
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% elif m.role =="
    " 'assistant' %}<|bot|>{{ m.content.split('</think>')[-1] }}<eos>{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|><think>\n{% endif %}"
)
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ 'user' if m.role == 'user' else 'bot' }}|>\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>\n{% else %}{{ eos_token }}{% endif %}"
)
INST = (  # no generation prompt of its own, and no system turn
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% elif m.role =="
    " 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}{{ raise_exception('no system role') }}{% endif %}"
    "{% endfor %}"
)


PARTS = (  # of a multimodal model: text that is not in a list of parts is dropped without a word
    "{% for m in messages %}{{ m.role }}: {% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "<|im_end|>{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokenizer_with(
    template: str | None = None, *, bos: bool = False, ends: bool = False, tags: bool | None = None
) -> Any:
    """Bytes as tokens; `bos` and `ends` are put around a text, `tags` makes the think tags (special) tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(SPECIAL + alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if tags is not None:
        backend.add_tokens([AddedToken(tag, special=tags, normalized=False) for tag in ("<think>", "</think>")])
    if bos or ends:
        backend.post_processor = processors.TemplateProcessing(
            single=("<bos> " if bos else "") + "$A" + (" <eos>" if ends else ""),
            special_tokens=[("<bos>", 0), ("<eos>", 1)],
        )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        additional_special_tokens=SPECIAL[3:],
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def text_of(template: str | None, content: Any, *, chat: bool = True, **options: Any) -> str:
    return Renderer(tokenizer_with(template), chat=chat, **options).render("p", Prompt("0", content)).text


USER = {"role": "user", "content": "Hi."}
TALK = ({"role": "system", "content": "Be kind."}, USER, {"role": "assistant", "content": "Ho."}, USER)


# Chat


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


# Plain


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


# Reasoning in the prompt


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


# The answer


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


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


# What ends a completion


CHANNELS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}\n"
    "{{ m.content }}{% if m.role == 'assistant' and loop.last %}<eos>{% else %}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHANNELS, {1}),
        (OLMO_THINK, {1, 4}),
        (QWEN, {1, 4}),
        (GENERATION, {1, 4}),
        (R1, {1}),
        (PHI, {1, 4}),
        (INST, {1}),
    ],
)
def test_the_template_s_end_of_turn_ends_a_completion(template: str, ends: set[int]) -> None:
    renderer = Renderer(tokenizer_with(template), chat=True)

    assert renderer.eos_token_ids(None) == ends
    assert renderer.eos_token_ids(9) == ends | {9}
    assert renderer.eos_token_ids([1, 8]) == ends | {8}
    assert Renderer(tokenizer_with(template), chat=False).eos_token_ids([8]) == {1, 8}


# chat="auto"


class Untouchable:
    """A streamed training set: measuring or iterating it would move the run's own stream."""

    def __iter__(self) -> Any:
        raise AssertionError("iterated")

    def __len__(self) -> int:
        raise AssertionError("measured")

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("read")


class UntouchableStream(Untouchable, datasets.IterableDataset):
    def __init__(self) -> None:
        pass


def detect_chat(tokenizer: Any, dataset: Any) -> bool:
    return prompt_form(tokenizer, dataset).chat


UNREADABLE = [Untouchable(), UntouchableStream(), None, [], [{"pixel_values": [1]}], [(1, 2)]]


@pytest.mark.parametrize("dataset", UNREADABLE)
def test_where_rows_cannot_be_read_a_template_decides(dataset: Any) -> None:
    ends_turns = tokenizer_with(QWEN)
    ends_turns.eos_token = "<|im_end|>"
    found = prompt_form(ends_turns, dataset)
    assert found.chat and found.guessed and "no training row or sign of a base model" in found.reason
    assert not detect_chat(tokenizer_with(None), dataset)


# Without rows: what speaks for a base model that ships with a template


def model_of(tokenizer: Any, *, name: str = "", eos: Any = None, untrained: float | None = None) -> Any:
    made = tiny.model("llama", vocab_size=len(tokenizer))
    made.config._name_or_path = name
    made.generation_config.eos_token_id = tokenizer.eos_token_id if eos is None else eos
    if untrained is not None:
        with torch.no_grad():
            made.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("<|im_end|>")] *= untrained
    return made


@pytest.mark.parametrize(
    ("of_model", "eos_token", "chat", "reason"),
    [
        # Qwen 2.5: base and instruct share the template; only the latter ends texts with its end of turn.
        ({}, "<eos>", False, "ends a text with the template's end of turn <|im_end|>"),
        ({}, "<|im_end|>", True, "no training row or sign of a base model"),
        ({"eos": [1, 4]}, "<eos>", True, "no training row or sign of a base model"),
        # Llama 3's base: the token is there, and was never trained.
        ({"untrained": 0.01}, "<|im_end|>", False, "the embedding of its end of turn <|im_end|> was never trained"),
        ({"untrained": 0.5}, "<|im_end|>", True, "no training row"),
        ({"name": "some/Model-7B-Base"}, "<|im_end|>", False, "its name says base"),
        ({"name": "google/gemma-3-1b-pt"}, "<|im_end|>", False, "its name says pt"),
        ({"name": "/runs/base/Model-SFT"}, "<eos>", True, "no training row"),
        ({"name": "Model-7B-Instruct"}, "<eos>", True, "no training row"),
    ],
)
def test_a_base_model_with_a_template_is_prompted_in_plain_text(
    of_model: dict[str, Any], eos_token: str, chat: bool, reason: str
) -> None:
    tokenizer = tokenizer_with(QWEN)
    tokenizer.eos_token = eos_token
    found = prompt_form(tokenizer, None, model_of(tokenizer, **of_model))
    assert (found.chat, found.guessed) == (chat, True) and reason in found.reason
    row = [{"prompt": [USER]}]
    assert prompt_form(tokenizer, row, model_of(tokenizer, **of_model)).chat, "training rows say more than any sign"


@pytest.mark.parametrize("template", [OLMO_THINK, QWEN, R1, GENERATION, PHI, INST])
@pytest.mark.parametrize("column", ["input_ids", "prompt_ids", "text"])
def test_the_assistant_header_in_the_rows_turns_chat_on(template: str, column: str) -> None:
    tokenizer = tokenizer_with(template)
    talk = tokenizer.apply_chat_template([USER, {"role": "assistant", "content": "<think>a</think>b"}], tokenize=False)
    chat, plain = (value if column == "text" else ids_of(tokenizer, value) for value in (talk, "Hi. Ho."))

    assert detect_chat(tokenizer, datasets.Dataset.from_list([{column: plain}, {column: chat}]))
    assert not detect_chat(tokenizer, [{column: plain}] * 3)
    assert not detect_chat(tokenizer, [{column: plain}] * 8 + [{column: chat}]), "the first 8 rows are read"


@pytest.mark.parametrize(
    ("row", "chat"),
    [
        ({"prompt": [USER]}, True),
        ({"messages": [USER]}, True),
        ({"chosen": [USER], "rejected": [USER]}, True),
        ({"prompt": "1 + 1?"}, False),
        ({"prompt": "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"}, True),
    ],
)
def test_raw_rows(row: dict[str, Any], chat: bool) -> None:
    assert detect_chat(tokenizer_with(QWEN), [row]) == chat
    assert not detect_chat(tokenizer_with(None), [row])


def test_a_header_is_found_by_ids_where_decoding_does_not_give_the_text_back() -> None:
    words = ["[UNK]", "user", "assistant", ":", "hi", "ho", "<eos>"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert "assistant:" not in tokenizer.decode([1, 3, 4, 2, 3, 5])

    assert detect_chat(tokenizer, [{"input_ids": [1, 3, 4, 2, 3, 5]}])
    assert not detect_chat(tokenizer, [{"input_ids": [1, 3, 4, 2, 5, 3]}])


# The caller's tokenizer


class Processor:
    """Holds a tokenizer as multimodal processors do."""

    def __init__(self, tokenizer: Any, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.chat_template = chat_template


def test_a_processor_gives_its_tokenizer_and_its_template() -> None:
    tokenizer = tokenizer_with(None)

    assert own_tokenizer(Processor(tokenizer)) is tokenizer
    assert own_tokenizer(tokenizer) is tokenizer
    rendered = Renderer(Processor(tokenizer, GENERATION), chat=True).render("p", Prompt("0", "Hi."))
    assert rendered.text.endswith("assistant\n")
    assert tokenizer.chat_template is None


@pytest.mark.parametrize("processing_class", [None, "gpt2", Processor(None)])
def test_without_a_tokenizer_the_error_says_what_to_pass(processing_class: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a tokenizer .* pass tokenizer="):
        Renderer(processing_class, chat=False)


def test_the_caller_s_tokenizer_does_not_change(tmp_path: Path) -> None:
    def saved(folder: str) -> dict[str, bytes]:
        tokenizer.save_pretrained(tmp_path / folder)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / folder).iterdir())}

    tokenizer = tokenizer_with(OLMO_THINK, bos=True, ends=True)
    tokenizer.padding_side = "right"
    tokenizer(["a b c", "d"], padding=True, truncation=True, max_length=2)  # leaves its mark in the backend
    before, state = saved("before"), copy.deepcopy(tokenizer.__dict__)
    assert b'"max_length":2' in before["tokenizer.json"].replace(b" ", b"")

    detect_chat(tokenizer, [{"input_ids": [1, 2, 3]}])
    renderer = Renderer(tokenizer, chat=True, think="off", system_prompt="Be brief.")
    rendered = renderer.render("p", Prompt("0", "A prompt that is longer than two tokens."))
    Renderer(tokenizer, chat=False).render("p", Prompt("0", "A plain one."))
    renderer.eos_token_ids(1)
    renderer.split([1, 9, 10], True)

    assert saved("after") == before
    assert tokenizer.__dict__.keys() == state.keys()
    assert len(rendered.input_ids) > 40, "the caller's truncation does not reach our prompts"


# Options


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"chat=True, but the tokenizer .* has no chat template"):
        Renderer(tokenizer_with(None), chat=True)
    with pytest.raises(ValueError, match="system_prompt needs chat=True"):
        Renderer(tokenizer_with(QWEN), chat=False, system_prompt="Be brief.")
    with pytest.raises(ValueError, match="expected think to be 'auto', 'on', 'off' or a Think, came 'never'"):
        Renderer(tokenizer_with(QWEN), chat=True, think="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt '0' of 'p' renders to no tokens"):
        Renderer(tokenizer_with(), chat=False).render("p", Prompt("0", ""))


@pytest.mark.parametrize("content", ["half \ud83d of it", ({"role": "user", "content": "\udc00"},)])
@pytest.mark.parametrize("chat", [True, False])
def test_half_a_character_is_an_error_in_words(content: Any, chat: bool) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}" if chat else None
    renderer = Renderer(tiny.tokenizer(chat_template=template), chat=chat)
    with pytest.raises(ValueError, match=r"prompt 'p' of 'task' holds half a character.*read its file as UTF-8"):
        renderer.render("task", Prompt("p", content))
