"""Whether prompts go through the chat template, as chat="auto" finds it: by the training rows, else by the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from divmon.prompts.rendering.base_model import base_model_sign
from divmon.prompts.rendering.chat_template import assistant_header, template_of, tokenizer_copy


@dataclass(frozen=True)
class PromptForm:
    """Whether prompts go through the chat template, and how that was found."""

    chat: bool
    reason: str
    guessed: bool = False
    """Nothing but the template itself and the model could be looked at."""


def prompt_form(tokenizer: Any, train_dataset: Any, model: Any = None) -> PromptForm:
    """Whether prompts go through the chat template, and why.

    They do where one of the first 8 training rows is a conversation or holds the template's assistant header. Where
    rows cannot be read (none, streamed, of an unknown kind) but there is a template, they do unless tokenizer or model
    look like a base model's (`base_model_sign`). A data set that is neither a list nor a datasets.Dataset is never
    measured by len() nor iterated: that could move the training's own stream.
    """
    tokenizer = tokenizer_copy(tokenizer)
    if not template_of(tokenizer):
        return PromptForm(False, "the tokenizer has no chat template")
    header = assistant_header(tokenizer, {})[0]
    seen = [_speaks_chat(row, tokenizer, header) for row in _first_rows(train_dataset)]
    known = [answer for answer in seen if answer is not None]
    if known:
        spoken = any(known)
        return PromptForm(spoken, f"the training rows {'are conversations' if spoken else 'are plain text'}")
    sign = base_model_sign(tokenizer, model)
    if sign:
        return PromptForm(False, f"there is a chat template, but {sign}, as in a base model", guessed=True)
    return PromptForm(True, "there is a chat template, and no training row or sign of a base model", guessed=True)


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
