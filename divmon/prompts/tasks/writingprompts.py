"""Prompts for short stories (Fan et al. 2018)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def writingprompts() -> Task:
    """WritingPrompts as the paper prompts it: the prompt with its tag and a blank line; nothing grades a story."""
    return Task(
        name="writingprompts",
        category="creative",
        dataset="euclaise/writingprompts",
        subset="default",
        split="test",
        rows=15_138,
        prompt=lambda row: f"{row['prompt'].strip()}\n\n",
        max_new_tokens=1024,
    )
