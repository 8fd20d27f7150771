"""News articles to sum up in a few sentences (Hermann et al. 2015; See et al. 2017)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def cnn_dailymail() -> Task:
    """CNN/DailyMail as the paper prompts it: an article, then `TL;DR:`; nothing grades a summary."""
    return Task(
        name="cnn_dailymail",
        category="summarization",
        dataset="abisee/cnn_dailymail",
        subset="3.0.0",
        split="test",
        rows=11_490,
        prompt=lambda row: f"ARTICLE: {row['article']}\nTL;DR:",
        id_field="id",
        max_new_tokens=256,
        stop=("\n\n",),
    )
