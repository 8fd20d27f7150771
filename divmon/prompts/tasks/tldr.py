"""Reddit posts to sum up in a line (Stiennon et al. 2020)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def tldr() -> Task:
    """TL;DR as the paper prompts it: a post, then `TL;DR:`; nothing grades a summary."""
    return Task(
        name="tldr",
        category="summarization",
        dataset="UCL-DARK/openai-tldr-filtered",
        subset="default",
        split="test",
        rows=6_553,
        prompt=lambda row: f"SUBREDDIT: {row['subreddit']}\nTITLE: {row['title']}\nPOST: {row['post']}\nTL;DR:",
        max_new_tokens=128,
        stop=("\n\n",),
    )
