"""A row of a user's file or of a trainer's data set, as the prompt that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from divmon.types import Category, Message, Prompt

Content = str | tuple[Message, ...] | tuple[int, ...]

ASKS = ("question", "problem", "instruction", "query", "input")
"""Columns that ask, where there is neither `prompt` nor `messages`."""
GOLDS = ("ground_truth", "reference_answer", "gold_answer", "target", "answer")
"""Columns of the reference answer where there is no `gold`, the first that holds a text or a number."""

ROLES = ("system", "developer", "user", "assistant", "tool")


def read_prompt(row: Any, index: int, where: str) -> Prompt:
    """A row {id?, prompt | messages, gold?, category?}, or the prompt alone, as a Prompt; its id defaults to `index`.
    Raises ValueError: the row is bad."""
    fields = row if isinstance(row, Mapping) else {"prompt": row}
    gold = fields.get("gold")
    if gold is None:
        others = (fields[name] for name in GOLDS if isinstance(fields.get(name), str | int | float))
        gold = next((value for value in others if not isinstance(value, bool)), None)
    try:
        content = read_content(fields)
        if gold is not None and (isinstance(gold, bool) or not isinstance(gold, str | int | float)):
            raise ValueError(f"expected `gold` to be text or a number, came {gold!r}")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Prompt(
        id=str(index if fields.get("id") is None else fields["id"]),
        content=content,
        gold=None if gold is None else str(gold),
        row=dict(row) if isinstance(row, Mapping) else None,
        category=fields["category"] if fields.get("category") in get_args(Category) else "other",
    )


def read_content(row: Mapping[str, Any]) -> Content:
    """What a row asks: its `prompt` (text, messages or token ids), else its `messages` up to the last answer, else
    another usual column."""
    prompt, messages = row.get("prompt"), row.get("messages")
    if prompt is None and messages is None:
        prompt = next((row[name] for name in ASKS if row.get(name) is not None), None)
    if prompt is None and messages is None:
        raise ValueError(f"expected a `prompt` or `messages`; the columns there are {', '.join(row) or 'none'}")
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError("the prompt is empty")
        return prompt
    if isinstance(prompt, list | tuple) and prompt and all(type(token) is int for token in prompt):
        return tuple(prompt)
    turns = read_messages(messages if prompt is None else prompt)
    if prompt is not None and turns[-1]["role"] == "assistant":
        raise ValueError("the conversation ends with an assistant turn; a prompt ends where the model is to answer")
    while turns and turns[-1]["role"] == "assistant":
        turns = turns[:-1]
    if not turns:
        raise ValueError("the messages hold answers only; expected a user turn before them")
    return turns


def read_messages(messages: Any) -> tuple[Message, ...]:
    """A conversation, checked; content given in parts of text is joined."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"expected text or a list of messages, came {type(messages).__name__}: {str(messages)[:60]}")
    turns = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(f"message {number}: expected {{'role': ..., 'content': ...}}, came {str(message)[:60]!r}")
        if message["role"] not in ROLES:
            raise ValueError(f"message {number}: no role {message['role']!r}; there are {', '.join(ROLES)}")
        content = message.get("content")
        if content is None and message.get("tool_calls"):
            content = ""
        if isinstance(content, list | tuple):
            content = "".join(_part_text(part, number) for part in content)
        if not isinstance(content, str):
            raise ValueError(f"message {number}: expected `content` to be text, came {str(content)[:60]}")
        # Arrow fills the keys that other rows have with None.
        turns.append({key: value for key, value in message.items() if value is not None} | {"content": content})
    return tuple(turns)


def _part_text(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ValueError(f"message {number}: expected parts of text, came one of type {kind!r}")


def trained_prompt(row: Mapping[str, Any], tokenizer: Any = None) -> Content:
    """The prompt of a row as a trainer holds it, raw or tokenized.

    TRL keeps the raw columns beside the ids it makes. They are read first, so that `think` and `system_prompt` act on
    them too, and because the ids stop where prompt and completion tokenize alike, short of a template's `<think>`. The
    ids are read where the raw columns are gone, or where the row brings tools or template options of its own. Raises
    ValueError: where the prompt ends cannot be told.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"expected a row with named columns, came {type(row).__name__}")
    ids = _prompt_ids(row, tokenizer)
    if ids and (row.get("tools") or row.get("chat_template_kwargs")):
        return ids
    if row.get("prompt") is None and row.get("messages") is None:
        if ids:
            return ids
        if "input_ids" in row:
            raise ValueError(
                f"it holds text without a mark where the prompt ends (columns: {', '.join(row)}). Give the eval set a"
                " column `prompt` or `messages` (with packing, eval_packing=False keeps it), or measure other prompts:"
                " a task, a JSONL file, a list of strings"
            )
    return read_content(row)


def _prompt_ids(row: Mapping[str, Any], tokenizer: Any) -> tuple[int, ...]:
    """Token ids before the last answer of a tokenized row; empty where the row does not tell.

    TRL 1.16: DPO and KTO write `prompt_ids`; SFT writes `input_ids` with `labels` that are -100 outside the answers.
    Before it, SFT kept `completion_mask` or `assistant_masks`, and DPO wrote `prompt_input_ids`.
    """
    for column in ("prompt_ids", "prompt_input_ids"):
        if row.get(column) is not None:
            return _ints(row[column])
    ids = _ints(row.get("input_ids"))
    masks = [row[column] for column in ("completion_mask", "assistant_masks") if row.get(column) is not None]
    if masks:
        answer = [all(bits) for bits in zip(*map(_ints, masks), strict=True)]
    else:
        answer = [label != -100 for label in _ints(row.get("labels"))]
    if row.get("seq_lengths") is not None:  # packed: the first of its sequences
        answer = answer[: int(row["seq_lengths"][0])]
    last = len(answer) - 1
    while last >= 0 and not answer[last]:
        last -= 1
    while last >= 0 and answer[last]:
        last -= 1
    end = last + 1
    return ids[_padding(row, ids, tokenizer) : end]


def _padding(row: Mapping[str, Any], ids: tuple[int, ...], tokenizer: Any) -> int:
    """How many tokens of padding stand before the row."""
    mask = _ints(row.get("attention_mask"))
    if mask:
        return mask.index(1) if 1 in mask else 0
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None or pad == tokenizer.bos_token_id:
        return 0
    return next((index for index, token in enumerate(ids) if token != pad), 0)


def _ints(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)
