"""Python functions to write from a sentence (Austin et al. 2021)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def mbpp() -> Task:
    """MBPP as the paper prompts it: the sentence as a docstring, graded by its unit tests."""
    return Task(
        name="mbpp",
        category="code",
        dataset="google-research-datasets/mbpp",
        subset="full",
        split="test",
        rows=500,
        prompt=lambda row: f'"""\n{row["text"]}\n"""\n',
        solution=lambda row: row["code"],
        id_field="task_id",
        max_new_tokens=512,
        stop=("\nclass ", "\n#", "\nif __name__"),
        verifier="python_tests",
    )
