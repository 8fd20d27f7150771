"""What a chat template says: its assistant header and its end of turn."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from divmon.types import Message

# Words that no template holds, so that what stands around them can be found.
_ASKED, _ANSWERED = "qzasked", "qzanswered"
_TURNS: list[Message] = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}]


def own_tokenizer(processing_class: Any) -> Any:
    """The tokenizer itself, or that of a multimodal processor. Raises ValueError: there is none."""
    inner = getattr(processing_class, "tokenizer", None)
    tokenizer = inner if hasattr(inner, "eos_token_id") else processing_class
    if not hasattr(tokenizer, "eos_token_id"):
        came = "none" if processing_class is None else type(processing_class).__name__
        raise ValueError(f"expected a tokenizer to render prompts with, came {came}; pass tokenizer=")
    return tokenizer


def tokenizer_copy(processing_class: Any) -> Any:
    """A copy to call freely: calling the caller's own would change the padding and truncation that it saves.

    A processor's chat template is taken where its tokenizer has none.
    """
    tokenizer = copy.deepcopy(own_tokenizer(processing_class))
    if not template_of(tokenizer) and template_of(processing_class):
        tokenizer.chat_template = processing_class.chat_template
    return tokenizer


def template_of(tokenizer: Any) -> str:
    """The chat template without its comments; empty where there is none."""
    template = getattr(tokenizer, "chat_template", None)
    template = (template.get("default") if isinstance(template, dict) else template) or ""
    return re.sub(r"\{#.*?#\}", "", template, flags=re.DOTALL)


def apply(tokenizer: Any, turns: Sequence[Message], kwargs: dict[str, Any], header: bool = False) -> str:
    """A conversation as text; with `header`, up to where the answer is to begin."""
    options = kwargs | {"tokenize": False, "add_generation_prompt": header}
    if _wants_parts(tokenizer, options):
        turns = _in_parts(turns)
    return tokenizer.apply_chat_template(list(turns), **options)


def _wants_parts(tokenizer: Any, options: dict[str, Any]) -> bool:
    """Templates of multimodal models may drop, or fail on, content that is not a list of parts."""

    def shows(turns: list[Message]) -> bool:
        try:
            return _ASKED in tokenizer.apply_chat_template(turns, **options)
        except Exception:  # templates raise what they like; rendering a real prompt says so in words
            return False

    return not shows(_TURNS[:1]) and shows(_in_parts(_TURNS[:1]))


def _in_parts(turns: Sequence[Message]) -> list[Message]:
    return [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


def assistant_header(tokenizer: Any, kwargs: dict[str, Any], think_open: str = "<think>") -> tuple[str, str]:
    """(what stands before an answer, without space and reasoning tag; the whole of a short rendered prompt).

    Both are empty where the template refuses such a prompt. Templates that add nothing for a generation prompt, or
    close the conversation without one, have their header between a user's turn and the answer.
    """
    try:
        prompt = apply(tokenizer, _TURNS[:1], kwargs, header=True)
        bare = apply(tokenizer, _TURNS[:1], kwargs)
        added = prompt.removeprefix(bare) if prompt.startswith(bare) else ""
        if not added:
            added = apply(tokenizer, _TURNS, kwargs).partition(_ANSWERED)[0].partition(_ASKED)[2]
    except Exception:  # as above
        return "", ""
    return added.partition(think_open)[0].strip(), prompt


def end_of_turn_ids(tokenizer: Any, kwargs: dict[str, Any]) -> set[int]:
    """The added token right after an answer: at the end of a conversation and in its middle, as Olmo 3's differ.

    Not in the middle where answers come in channels (gpt-oss): there it ends the reasoning too.
    """
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    ends: set[int] = set()
    talks = [_TURNS, [*_TURNS, {"role": "user", "content": "more"}]]
    for turns in talks[:1] if "<|channel|>" in template_of(tokenizer) else talks:
        try:
            after = apply(tokenizer, turns, kwargs).partition(_ANSWERED)[2].lstrip()
        except Exception:  # as above
            continue
        closing = sorted((content for content in added if after.startswith(content)), key=len)
        ends.update(added[content] for content in closing[-1:])
    return ends
