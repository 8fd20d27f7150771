"""Instructions of many kinds, written by a model (Taori et al. 2023)."""

from __future__ import annotations

from divmon.prompts.tasks import Row, Task


def alpaca() -> Task:
    """Alpaca as the paper prompts it: its own template, with or without an input; nothing grades an answer."""
    return Task(
        name="alpaca",
        category="instruction",
        dataset="tatsu-lab/alpaca",
        subset="default",
        split="train",
        rows=52_002,
        prompt=in_alpaca_s_template,
        max_new_tokens=512,
        stop=("\n\n###", "\n\n##"),
    )


def in_alpaca_s_template(row: Row) -> str:
    """The instruction under its heading, and the input under another where there is one."""
    context = ", paired with an input that provides further context" if row["input"] else ""
    given = f"### Input:\n{row['input']}\n\n" if row["input"] else ""
    return (
        f"Below is an instruction that describes a task{context}. Write a response that appropriately completes the"
        f" request.\n\n### Instruction:\n{row['instruction']}\n\n{given}### Response:\n"
    )
