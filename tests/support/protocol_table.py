"""What each of the paper's tasks asks, where its answers are cut and what judges them, in chat and in plain text.

`python -m support.protocol_table`, in tests/, writes the table anew; a test fails where it differs.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from divmon.options import Options
from divmon.prompts import tasks
from divmon.sampling.completions import from_text
from divmon.training.protocol import Asking
from support import RECIPES, RESULTS, tiny
from support.task_rows import ROWS

TABLE = RESULTS / "protocol.txt"
REAL_TABLE = RESULTS / "protocol_smollm2.txt"
"""The same through a real chat model's tokenizer and template."""
TEMPLATE = RECIPES / "templates" / "instruct.jinja"
OWN = {"ifeval": "Yes.", "tldr": " I burnt my tongue.", "alpaca": "Hello Ann"}
"""Answers to rows that bring no reference answer that a rule could accept, or that nothing grades."""
_HEAD = """\
What each of the paper's tasks asks, where its answers are cut, and what judges them, in plain text and in chat.

One row of our own in each data set's schema; {how}. "answer" is the row's reference
answer as a model would write it in that form, "kept" what is left of it once it is cut where it ends, "verdict" that of
the task's verifier on what is kept. In plain text stop strings end an answer, in chat the end of the turn alone: "cut
as plain" is what would be left of the chat answer if the plain prompts' stop strings cut it, with its verdict.
"""
HEAD = _HEAD.format(how="chat through Olmo 3's instruct template")
REAL_HEAD = _HEAD.format(how="SmolLM2's tokenizer and chat template")


def answer(name: str, chat: bool) -> str:
    row = ROWS[name][0]
    task = tasks.load(name)
    said = task.solution(row) if task.solution else OWN.get(name, " An answer.")
    if not chat:
        return said
    program = {"humaneval": row.get("prompt", "") + said, "mbpp": said}.get(name)
    if name == "truthfulqa":
        return f"{said.strip()}.\n\nThat is a myth."
    if program is not None:
        return f"Sure, here it is:\n\n```python\n# as asked\n{program}\n```\n\nIt passes the tests."
    return f"Let us see.\n\n## Answer\n{said.strip()}"


def lines(tokenizer: Any = None, head: str = HEAD) -> list[str]:
    """The table, through this tokenizer; through the tests' own where None."""
    tokenizer = tokenizer or tiny.tokenizer(chat_template=TEMPLATE.read_text(encoding="utf-8"))
    found = head.splitlines()
    with tempfile.TemporaryDirectory() as folder:
        for name, (row, *_) in ROWS.items():
            (Path(folder) / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        forms = {
            form: Asking(Options(probes=f"paper@{folder}", num_prompts=1, chat=form == "chat"), tokenizer)
            for form in ("plain", "chat")
        }
        for name in tasks.PAPER:
            task = tasks.load(name)
            found += ["", f"== {name}: {task.dataset}, {task.subset or 'default'}, {task.split}"]
            found += [f"limit    {task.max_new_tokens} new tokens", f"verifier {task.verifier or 'none'}"]
            for form, asking in forms.items():
                found += _form(asking, form, name, forms["plain"])
    return found


def _form(asking: Asking, form: str, name: str, plain: Asking) -> list[str]:
    (request,) = [r for r in asking.requests(1) if r.prompt.task == name]
    (probe,) = [p for p in asking.probes if p.name == name]
    said = answer(name, form == "chat")
    ends = ", ".join(map(repr, request.decoding.stop)) or ("end of turn" if form == "chat" else "end of text")
    rows = [
        f"{form:<8} prompt  {request.prompt.text!r}",
        f"{'':<8} ends at {ends}",
        f"{'':<8} answer  {said!r}",
        *_judged(asking, probe, request, said, "kept"),
    ]
    if form == "chat" and plain.decodings[name].stop:
        (as_plain,) = [r for r in plain.requests(1) if r.prompt.task == name]
        rows += _judged(asking, probe, as_plain, said, "cut as plain")
    return rows


def _judged(asking: Asking, probe: Any, request: Any, said: str, title: str) -> list[str]:
    sample = from_text(asking.renderer, request, 0, said, "eos", n_tokens=0)
    kept = "whole" if sample.text == said else repr(sample.text)
    verdicts = asking.grade(probe, [sample])
    verdict = f", verdict {verdicts[0].correct}" if verdicts else ""
    return [f"{'':<8} {title}: {kept}{verdict}"]


def check(table: list[str]) -> None:
    """What every table must show: reference answers get through whole and are correct, as chat answers cut as plain
    ones are not."""
    text = "\n".join(table)
    assert len(re.findall(r"(?m)^ +kept: whole", text)) == 2 * len(tasks.PAPER), "in both forms, of every task"
    assert len(re.findall(r"kept: whole, verdict True", text)) == 2 * len(tasks.groups()["verifiable"])
    assert text.count("cut as plain: 'Sure, here it is:\\n\\n```python', verdict False") == 2, "what chat was cut to"


if __name__ == "__main__":
    from transformers import AutoTokenizer

    from divmon.scoring.packaged_weights import Unavailable, folder

    TABLE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    try:
        real = lines(AutoTokenizer.from_pretrained(folder("smollm2")), REAL_HEAD)
        REAL_TABLE.write_text("\n".join(real) + "\n", encoding="utf-8")
    except Unavailable as error:
        print(f"{REAL_TABLE} stays as it was: {error}")
