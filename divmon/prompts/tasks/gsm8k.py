"""Grade-school word problems with one numeric answer (Cobbe et al. 2021)."""

from __future__ import annotations

from divmon.prompts.tasks import Row, Task


def gsm8k() -> Task:
    """GSM8K as the paper prompts it: `Question: ... Answer:`, graded by the number after `####`."""
    return Task(
        name="gsm8k",
        category="reasoning",
        dataset="openai/gsm8k",
        subset="main",
        split="test",
        rows=1_319,
        prompt=lambda row: f"Question: {row['question']}\n\nAnswer:",
        gold=number_after_hashes,
        solution=lambda row: row["answer"],
        max_new_tokens=512,
        stop=("\nQuestion:",),
        verifier="math_answer",
    )


def number_after_hashes(row: Row) -> str:
    """The final answer of a row, without thousands separators.

    >>> number_after_hashes({"answer": "52 * 2000 = 104000\\n#### 104,000"})
    '104000'
    """
    _, hashes, number = str(row["answer"]).rpartition("####")
    if not hashes or not number.strip():
        raise ValueError(f"expected an answer that ends in '#### <number>', came {str(row['answer'])[-60:]!r}")
    return number.strip().replace(",", "")
