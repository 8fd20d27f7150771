"""The groups of completions that RL training draws anyway: one prompt, its completions, and what they were rewarded."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from divmon.prompts.rendering import Think, split_reasoning
from divmon.types import Category, Finish, Message, Prompt, Sample

TASK = "rollouts"
"""All groups are scored as one task of this name."""

GOLD_COLUMNS = ("gold", "answer", "solution", "ground_truth", "target", "label")
"""Columns of a row that are its right answer, the first that is there."""


@dataclass(frozen=True)
class Group:
    """The completions of one prompt that were drawn together."""

    prompt: Any
    """Text or messages, as the trainer has them; so are the completions."""
    completions: Sequence[Any]
    rewards: Any
    """[G, F], by completion and reward function: a tensor or lists, NaN where a function gave none."""
    finishes: Sequence[Finish]
    n_tokens: Sequence[int | None]
    row: Mapping[str, Any] | None = None
    """The other columns of the prompt's row, for a verifier; None where another process has it."""


@dataclass(frozen=True)
class Drawn:
    """The groups of a window that are scored, of all that there were."""

    by_id: dict[str, Group]
    """By an id that follows from the prompt's text, so that a prompt that comes again is known; in the draw's order."""
    seen: int


class Draw:
    """Draws at most `most` of the groups that come, without a random generator and without keeping the others.

    Which prompts are drawn is decided by a hash of their text and the seed, so windows draw the same prompts where they
    hold the same, whatever their order, and a resumed run draws as the whole one.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most = most
        self._seed = seed
        self._kept: list[tuple[str, str, Group]] = []
        self._times: Counter[str] = Counter()
        self.seen = 0
        """Groups that came since the last `take`."""

    def add(self, group: Group) -> None:
        asked = text_of(group.prompt)
        name = _hash(asked)
        self._times[name] += 1
        self.seen += 1
        times = self._times[name]
        id = name if times == 1 else f"{name}-{times}"
        self._kept.append((_hash(f"{self._seed}/{times}/{asked}"), id, group))
        if len(self._kept) >= 2 * self._most:
            self._cut()

    def take(self) -> Drawn:
        """What was drawn since the last call."""
        self._cut()
        drawn = Drawn({id: group for _, id, group in self._kept}, self.seen)
        self._kept, self._times, self.seen = [], Counter(), 0
        return drawn

    def _cut(self) -> None:
        self._kept = heapq.nsmallest(self._most, self._kept, key=lambda entry: entry[:2])


def as_prompt(id: str, group: Group, category: Category = "other") -> Prompt:
    """A group's prompt for verifiers and tables; its gold is the first customary column of its row."""
    row = {name: value for name, value in (group.row or {}).items() if name not in ("prompt", "completion")}
    golds = [row[n] for n in GOLD_COLUMNS if isinstance(row.get(n), str | int | float) and not isinstance(row[n], bool)]
    content = group.prompt if isinstance(group.prompt, str) else tuple(map(_as_message, group.prompt))
    return Prompt(id, content, str(golds[0]) if golds else None, row if group.row is not None else None, category)


def samples(id: str, group: Group, opens_reasoning: bool = False) -> list[Sample]:
    """A group's completions as samples, answers apart from reasoning.

    Args:
        opens_reasoning: the chat template leaves a reasoning block open, so that completions begin inside it.
    """
    tags = Think()
    inside = group.prompt.rstrip().endswith(tags.open) if isinstance(group.prompt, str) else opens_reasoning
    found = []
    for i, (completion, finish, n) in enumerate(zip(group.completions, group.finishes, group.n_tokens, strict=True)):
        if completion is None:  # logged as null: nothing was kept of it
            found.append(Sample(TASK, id, i, "", finish, n, answered=False))
            continue
        apart = _reasoning_apart(completion)
        text, reasoning, answered = apart or split_reasoning(text_of(completion, last=True), tags, inside)
        found.append(Sample(TASK, id, i, text, finish, n, reasoning, answered))
    return found


def text_of(turns: Any, last: bool = False) -> str:
    """Text as it is; of messages all turns with their roles, or with `last` the content of the last assistant's."""
    if isinstance(turns, str):
        return turns
    if last:
        return next((_content(turn) for turn in reversed(turns) if turn.get("role") == "assistant"), "")
    return "\n".join(f"{turn.get('role')}: {_content(turn)}" for turn in turns)


def _reasoning_apart(completion: Any) -> tuple[str, str, bool] | None:
    """Of a response that the tokenizer parsed into fields: answer, reasoning, and whether there is an answer."""
    last = completion[-1] if completion and not isinstance(completion, str) else {}
    reasoning = last.get("reasoning_content") or last.get("thinking")
    return (_content(last), str(reasoning), bool(_content(last).strip())) if reasoning else None


def _as_message(turn: Mapping[str, Any]) -> Message:
    return {"role": turn.get("role"), "content": _content(turn)}


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    parts = ({"text": part} if isinstance(part, str) else part for part in content)
    return "".join(part.get("text") or f"({part.get('type')})" for part in parts)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
