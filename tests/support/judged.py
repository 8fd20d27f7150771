"""A hostile verifier, and verdicts of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from divmon.grading.grader import judge
from divmon.grading.verifiers import _pool
from divmon.types import Prompt, Verdict

PROMPT = Prompt("1", "What is 2 + 3?", gold="5")
HOSTILE = """
import os, sys, time
CALLS = []
def rule(text, prompt):
    if text == "hang":
        while True: pass
    if text == "sleep":
        time.sleep(60)
    if text == "exit":
        os._exit(3)
    if text == "kill":
        os.kill(os.getpid(), 9)
    if text == "raise":
        raise KeyError("inside")
    if text == "print":
        print('{"correct": true, "reason": "", "answer": null}'); sys.stdout.flush(); os.write(1, b"noise\\n")
    if text == "pid":
        return __import__("divmon.types").types.Verdict(True, str(os.getpid()))
    if text == "input":
        return sys.stdin.read() == ""
    if text == "none":
        return None
    if text == "half":
        return 0.5
    CALLS.append(text)
    return CALLS.count(text) == 1
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    yield f"{tmp_path / 'hostile.py'}:rule"
    _pool.pool(f"{tmp_path / 'hostile.py'}:rule").close()


def each(rule: str, texts: Sequence[str], **options: float) -> list[Verdict]:
    return judge(rule, texts, [PROMPT] * len(texts), **options)  # type: ignore[arg-type]
