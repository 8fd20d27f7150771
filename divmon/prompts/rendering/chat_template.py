"""What a chat template says: its assistant header, its end of turn, and whether training speaks through it."""

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
    """The tokenizer itself, or that of a multimodal processor.

    Raises:
        ValueError: there is none.
    """
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


def detect_chat(tokenizer: Any, train_dataset: Any) -> bool:
    """Whether training speaks through the chat template: what chat="auto" means.

    It does where one of the first 8 rows is a conversation or holds the template's assistant header, and where rows
    cannot be read (none, streamed, of an unknown kind) but there is a template. A data set that is neither a list nor a
    datasets.Dataset is never measured by len() nor iterated: that could move the training's own stream.
    """
    tokenizer = tokenizer_copy(tokenizer)
    if not template_of(tokenizer):
        return False
    header = assistant_header(tokenizer, {})[0]
    seen = [_speaks_chat(row, tokenizer, header) for row in _first_rows(train_dataset)]
    known = [answer for answer in seen if answer is not None]
    return any(known) if known else True


def _first_rows(dataset: Any, n: int = 8) -> list[Any]:
    if isinstance(dataset, list | tuple):
        return list(dataset[:n])
    if any(base.__name__ == "Dataset" and base.__module__.startswith("datasets.") for base in type(dataset).__mro__):
        dataset = dataset.with_format(None)  # a user's random transform would move the run's generator
        return [dataset[index] for index in range(min(n, len(dataset)))]
    return []


def _speaks_chat(row: Any, tokenizer: Any, header: str) -> bool | None:
    """None where the row does not tell."""
    if not hasattr(row, "get"):
        return None
    for column in ("messages", "prompt", "chosen", "completion"):
        turns = row.get(column)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]:
            return True
    for column in ("input_ids", "prompt_ids", "prompt_input_ids"):
        if row.get(column) is not None:
            return _holds(header, [int(token) for token in row[column]], tokenizer) if header else None
    texts = [row[column] for column in ("prompt", "text") if isinstance(row.get(column), str)]
    return any(header in text for text in texts if header) if texts else None


def _holds(header: str, ids: list[int], tokenizer: Any) -> bool:
    """As ids, since not every tokenizer decodes to what it read; and as text, since the header's end can merge."""
    wanted = tokenizer(header, add_special_tokens=False)["input_ids"]
    if any(ids[start : start + len(wanted)] == wanted for start in range(len(ids) - len(wanted) + 1)):
        return True
    return header in tokenizer.decode(ids, skip_special_tokens=False)
