"""Strings from outside in every command: names of files, runs, tasks, sources and columns, texts, and errors."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import run_dirs
from support.escapes import ALL, DANGEROUS, ESCAPES

import divmon
from divmon.cli import main

EVIL = ALL.encode("utf-8", "replace").decode().replace("\0", "")
"""What a name can hold: neither null nor lone surrogates; the slashes are those of links."""
NAME = EVIL.replace("/", "|")[:80]


def test_nothing_is_printed_past_the_one_function() -> None:
    """`show`, `show_json` and `say`; a process inside the sandbox speaks to its parent."""
    for path in (Path(divmon.__file__).parent).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "inside" or path.name == "terminal.py" or not re.search(r"print\(|std(out|err)", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write"):
                assert ast.unparse(node) == "print(flush=True)", f"{path}:{node.lineno}"


def run(name: str, tmp_path: Path) -> str:
    values = {(NAME, "sbert"): np.linspace(0.5, 0.2, 24).reshape(3, 8)}
    return str(run_dirs.write(tmp_path / name, [0, 10, 20], values, stage=EVIL))


def rows(tmp_path: Path) -> str:
    lines: list[Any] = [{"id": EVIL + str(i), "prompt": EVIL, "outputs": [EVIL, "b"], EVIL: 1} for i in range(3)]
    lines += [{"id": "x", "prompt": 1, EVIL: 2}]
    file = tmp_path / f"{NAME}.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return str(file)


def mixture(tmp_path: Path) -> str:
    file = tmp_path / "mix.jsonl"
    line = {"prompt": EVIL, "completion": EVIL, "source": EVIL}
    file.write_text("\n".join(json.dumps({**line, "completion": f"{EVIL} {i}"}) for i in range(4)) + "\n")
    return str(file)


def completions(tmp_path: Path) -> str:
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in (1, 2):
        prompts = [f"{EVIL} {i // 4}" for i in range(8)]
        table = pd.DataFrame({"step": step, "prompt": prompts, "completion": [f"{EVIL} {i}" for i in range(8)]})
        table.assign(**{NAME: np.arange(8.0) % 2, "advantage": 0.5}).to_parquet(
            folder / f"completions_{step:05}.parquet"
        )
    (folder / "completions_00003.parquet").write_text(EVIL)
    return str(tmp_path)


SHOWS = {
    "score": lambda t: ["score", rows(t), "--metrics", "ead"],
    "score since": lambda t: ["score", rows(t), "--metrics", "ead", "--reference", rows(t)],
    "compare": lambda t: ["compare", f"{NAME}={run('a', t)}", f"b{NAME}={run('b', t)}"],
    "compare as JSON": lambda t: ["compare", run("a", t), run("b", t), "--json"],
    "report": lambda t: ["report", run("a", t), "--out", str(t / f"{NAME}.html"), "--csv", str(t / "csv")],
    "rollouts": lambda t: ["rollouts", completions(t), "--metrics", "ead"],
    "rollouts as JSON": lambda t: ["rollouts", completions(t), "--metrics", "ead", "--json"],
    "data": lambda t: ["data", mixture(t), "--metrics", "ead", "--source-column", "source"],
}
REFUSES = {
    **{name: [name, EVIL] for name in ("score", "rollouts", "compare", "report", "tasks", "data", "replay")},
    "attach": ["attach", "--probes", EVIL, "--", EVIL],
    "attach a program": ["attach", "--", EVIL],
    "watch": ["watch", EVIL, "--once"],
    "demo": ["demo", "--steps", EVIL],
    "a flag": ["score", "a", f"--{EVIL}"],
    "an option": ["watch", "a", "--divmon_sampler", EVIL],
    "a command": [EVIL],
    "published": ["replay", "--checkpoints", "--models", EVIL],
}


@pytest.mark.parametrize("name", SHOWS)
def test_what_a_command_shows_is_clean(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SHOWS[name](tmp_path)) in (0, 1, 3), capsys.readouterr().err
    out, err = capsys.readouterr()
    assert out and not re.search(DANGEROUS, out + err)
    if name.endswith("JSON"):
        assert json.dumps(NAME)[1:30] in json.dumps(json.loads(out)), "data stays as it is"
    else:
        assert "before" in out + err and not re.search(r"\[31m|;http|8;;", out + err), "no debris of an escape either"


@pytest.mark.parametrize("name", REFUSES)
def test_what_a_command_refuses_is_clean(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(REFUSES[name]) == 2
    out, err = capsys.readouterr()
    assert err and not re.search(DANGEROUS, out + err)


def test_the_corpus_is_dangerous() -> None:
    assert all(re.search(DANGEROUS, text) for text in ESCAPES.values())
