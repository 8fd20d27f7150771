"""The table of what is asked, cut and judged is what the package does; and every reference answer gets through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import protocol_table

from divmon.prompts import tasks
from divmon.sampling.stop_strings import first_stop


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
def test_the_table_is_what_the_package_does() -> None:
    found = protocol_table.lines()
    kept = protocol_table.TABLE.read_text(encoding="utf-8").splitlines()
    assert found == kept, "`python -m support.protocol_table` in tests/ writes it anew"
    protocol_table.check(found)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("gsm8k", []),
        ("math_algebra", []),
        ("math_geometry", []),
        ("humaneval", []),
        (
            "mbpp",
            ["64"],
        ),  # its reference solution defines a class after its first line: the paper's stop string cuts it
        ("cruxeval", []),
        ("truthfulqa", []),
    ],
)
def test_a_plain_prompt_s_stop_strings_leave_the_reference_answers_whole(
    name: str, cut: list[str], shared: Path | None
) -> None:
    if shared is None:
        pytest.skip("the real rows are not at hand")
    task = tasks.load(name)
    assert task.solution is not None
    prompts = task.probe(10_000, source=shared / "data" / "probes").prompts
    assert [p.id for p in prompts if first_stop(task.solution(p.row or {}), task.stop) is not None] == cut
