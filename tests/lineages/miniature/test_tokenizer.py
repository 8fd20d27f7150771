"""The tokenizer: it reads any text and gives it back, digit by digit, the same on every training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.lineages.miniature.data import base_rows
from divmon.lineages.miniature.tokenizer import END_OF_TURN, EOS, PAD, TURN, train_tokenizer

TEXTS = [row["prompt"] + row["completion"] for row in base_rows(500, 0, wrong=0.3)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, 512)


@given(text=st.text())
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_small_with_all_its_special_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) <= 512
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (EOS, EOS, PAD)
    ids = tokenizer.convert_tokens_to_ids([EOS, PAD, TURN, END_OF_TURN])
    assert len(set(ids)) == 4
    assert tokenizer("5").input_ids == tokenizer.convert_tokens_to_ids(["5"]), "no token is added on its own"


@given(number=st.integers(0, 10**9))
def test_a_digit_is_a_token(tokenizer: Any, number: int) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer(str(number)).input_ids) == list(str(number))


def test_a_prompt_and_its_completion_meet_between_two_tokens(tokenizer: Any) -> None:
    for row in base_rows(300, 1, wrong=0.3):
        apart = tokenizer(row["prompt"]).input_ids + tokenizer(row["completion"]).input_ids
        assert tokenizer(row["prompt"] + row["completion"]).input_ids == apart


def test_the_words_of_the_world_are_tokens(tokenizer: Any) -> None:
    tokens = tokenizer(" How many apples are left?").input_ids
    assert len(tokens) == 6


def test_training_repeats_and_files_hold_all_of_it(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    again = train_tokenizer(TEXTS, 512)
    assert again.get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded(TEXTS[0]).input_ids == tokenizer(TEXTS[0]).input_ids
    assert (loaded.eos_token, loaded.pad_token, loaded.chat_template) == (EOS, PAD, tokenizer.chat_template)


def test_the_chat_template(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "2+3?"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"
    )
