"""News articles to sum up in one sentence (Narayan et al. 2018)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def xsum() -> Task:
    """XSum as the paper prompts it: an article, then `TL;DR:`; nothing grades a summary."""
    return Task(
        name="xsum",
        category="summarization",
        dataset="EdinburghNLP/xsum",
        subset="default",
        split="test",
        # Its main branch holds a loading script, which the datasets library no longer runs.
        revision="refs/convert/parquet",
        rows=11_334,
        prompt=lambda row: f"ARTICLE: {row['document']}\nTL;DR:",
        id_field="id",
        max_new_tokens=128,
        stop=("\n",),
    )
