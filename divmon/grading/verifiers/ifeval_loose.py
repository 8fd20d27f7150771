"""IFEval's loose accuracy: an introduction, a closing line and markdown's asterisks are forgiven."""

from __future__ import annotations

from divmon.grading.verifiers._constraints import verdict
from divmon.types import Prompt, Verdict

IMPORTS = ("py3langid",)


def ifeval_loose(text: str, prompt: Prompt, complete: bool = True) -> Verdict:
    """Each constraint is met by the text, or by it without its first line, its last line or its asterisks."""
    return verdict(text, prompt, complete, loose=True)
