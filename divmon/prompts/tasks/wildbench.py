"""Requests that real users sent to chat models (Lin et al. 2024)."""

from __future__ import annotations

from divmon.prompts.tasks import Row, Task


def wildbench() -> Task:
    """WildBench as the paper prompts it: the first turn of the user; nothing grades an answer."""
    return Task(
        name="wildbench",
        category="values",
        dataset="allenai/WildBench",
        subset="v2",
        split="test",
        rows=1_024,
        prompt=first_user_turn,
        id_field="session_id",
        max_new_tokens=1024,
    )


def first_user_turn(row: Row) -> str:
    """What the user said first; the later turns answer a model that is not the one measured."""
    turns = [turn["content"] for turn in row["conversation_input"] if turn["role"] == "user"]
    if not turns:
        raise ValueError("expected a turn of the user in 'conversation_input', came none")
    return turns[0].strip()
