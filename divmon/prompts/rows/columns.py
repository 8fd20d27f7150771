"""Names of columns that people give, and what is said where none of them is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from divmon.prompts.rows.files import parsed

PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input", "messages", "prompts", "questions")
"""Usual names of the column that asks, the first that is there."""
OUTPUTS = (
    *("outputs", "completions", "responses", "generations", "output", "completion", "response", "generation"),
    *("generated_text", "model_output", "predictions", "prediction", "choices"),
)
"""Of the column of completions."""
OF_ONE = frozenset(name for name in OUTPUTS if not name.endswith("s"))
"""Those that hold one completion, as a rule."""


def first_of(row: Mapping[str, Any], names: Iterable[str], but: str | None = None) -> str | None:
    """The first column of these names that holds something, however it is capitalized."""
    there = {str(name).lower(): name for name in reversed(list(row)) if name != but and row[name] is not None}
    found = (name if row.get(name) is not None and name != but else there.get(name.lower()) for name in names)
    return next((name for name in found if name is not None), None)


def cell_of(value: Any, of_texts: bool = True) -> Any:
    """A list that is spelled as JSON, and numpy's arrays as lists.

    Args:
        of_texts: a list of texts is one, as a table spells it; else a conversation alone, and any other text is what a
            model wrote.
    """
    if isinstance(value, str) and value.startswith(("[", "{")) and value.endswith(("]", "}")):
        try:
            found = parsed(value)
        except ValueError:
            return value
        if not isinstance(found, list):
            return value
        turns = bool(found) and all(isinstance(item, dict) and "role" in item for item in found)
        texts = of_texts and all(item is None or isinstance(item, str | dict | bool) for item in found)
        return found if turns or texts else value
    return value.tolist() if hasattr(value, "tolist") else value


def check_known(row: Mapping[str, Any], asks: str | None, says: str | None, file: str) -> None:
    """Raises ValueError where no column of the file is known, with the command that would read it."""
    prompt = first_of(row, [asks] if asks else PROMPTS)
    output = first_of(row, [says] if says else OUTPUTS, but=prompt)
    if (prompt is not None and output is not None) or not row:
        return
    others = [name for name in row if name not in (prompt, output)]
    texts = [name for name in others if isinstance(cell_of(row[name]), str | list) and not str(row[name]).isdigit()]
    lists = [name for name in texts if isinstance(cell_of(row[name]), list)]
    texts.sort(key=lambda name: len(str(row[name])), reverse=True)  # what a model says is longer than a setting
    guess_output = output or next(iter([*lists, *_naming(texts, OUTPUTS), *texts]), "COLUMN")
    left = [name for name in (*_naming(texts, PROMPTS), *texts) if name != guess_output]
    guess_prompt = prompt or next(iter(left), "COLUMN")
    lacking = " and ".join(what for what, has in (("prompts", prompt), ("completions", output)) if has is None)
    flags = ["--prompt-column", guess_prompt, "--output-column", guess_output]
    raise ValueError(
        f"{file}: no column of {lacking} is known; its columns are {', '.join(map(str, row))}; if these are they, this"
        f" would read it: {shlex.join(['divmon', 'score', file, *flags])}"
    )


def _naming(columns: Iterable[str], usual: Sequence[str]) -> list[str]:
    """Those in whose name a usual one is a word, "Model Answer" or "the prompt"."""
    words = {*usual, "answer"} if usual is OUTPUTS else set(usual)
    return [name for name in columns if words & set(re.split(r"[\W_]+", str(name).lower()))]
