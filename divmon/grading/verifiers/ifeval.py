"""Instructions whose constraints a program can check (IFEval): correct where every one is met, as the text stands."""

from __future__ import annotations

from divmon.grading.verifiers._constraints import verdict
from divmon.types import Prompt, Verdict

IMPORTS = ("py3langid",)


def ifeval(text: str, prompt: Prompt, complete: bool = True) -> Verdict:
    """Strict: the text itself meets every constraint of the row. An empty text meets none.

    >>> row = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    >>> ifeval("One, two.", Prompt("1", "?", row=row)).reason
    'not met: punctuation:no_comma'
    """
    return verdict(text, prompt, complete)
