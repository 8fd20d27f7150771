"""Chat or plain text, and what ends a turn."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from support import tiny
from support.templates import GENERATION, INST, OLMO_THINK, PHI, QWEN, R1, USER, ids_of, tokenizer_with
from tokenizers import Tokenizer, models, pre_tokenizers

from divmon.prompts.rendering import Renderer, own_tokenizer, prompt_form
from divmon.types import Prompt

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
