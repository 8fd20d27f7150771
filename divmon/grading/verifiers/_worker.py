"""The child process that grades: run as `python -I _worker.py`, a line of JSON in, a line of JSON out.

It is no module of a package when it runs, and imports nothing of the training script.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import sys
from typing import Any

MEMORY_BYTES = 4 * 2**30  # address space of a child that runs a rule of ours; a user's own may need a GPU's
SPARE_SECONDS = 10  # after its time limit a child whose parent is gone, and so cannot end it, ends itself
MAX_CHARACTERS = 1_000  # of a reason or an answer


def main() -> None:
    """Says hello once the verifier is loaded, then grades until its input ends."""
    # What a rule prints must not mix with the replies: they keep the pipe, and its output goes nowhere.
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    hello = json.loads(requests.readline())
    sys.path += [entry for entry in hello["path"] if entry and entry not in sys.path]
    try:
        from divmon.grading import verifiers

        if ":" not in hello["verifier"]:
            _limit_memory()
        verifier = verifiers.load(hello["verifier"])
        for name in verifier.imports:
            with contextlib.suppress(ImportError):  # the rule says so where it matters
                importlib.import_module(name)
        _reply(replies, {"ready": True})
    except Exception as error:
        _reply(replies, {"ready": False, "reason": f"{type(error).__name__}: {error}"})
        return
    for line in requests:
        job = json.loads(line)
        faulthandler.dump_traceback_later(job["seconds"] + SPARE_SECONDS, exit=True)
        _reply(replies, _grade(verifier, job))
        faulthandler.cancel_dump_traceback_later()


def _limit_memory() -> None:
    with contextlib.suppress(ValueError, OSError):  # some systems have no such limit; that of time holds all the same
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _grade(verifier: Any, job: dict[str, Any]) -> dict[str, Any]:
    from divmon.types import Prompt

    fields = job["prompt"]
    content = fields["content"]
    prompt = Prompt(**fields | {"content": content if isinstance(content, str) else tuple(content)})
    try:
        verdict = verifier(job["text"], prompt, job["complete"])
        return {"correct": verdict.correct, "reason": verdict.reason, "answer": verdict.answer}
    except BaseException as error:  # SystemExit too: it would cost another start
        return {"correct": None, "reason": f"{type(error).__name__}: {error}", "answer": None}


def _reply(replies: Any, message: dict[str, Any]) -> None:
    short = {key: value[:MAX_CHARACTERS] if isinstance(value, str) else value for key, value in message.items()}
    replies.write(json.dumps(short) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
