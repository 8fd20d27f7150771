"""The rows of recipes/smollm2, from files in both schemas; its runs are by hand, their tables beside it."""

from __future__ import annotations

import importlib.util
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("smollm2_train", ROOT / "recipes" / "smollm2" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sources_come_in_both_schemas_and_are_mixed_in_equal_parts(recipe: Any, tmp_path: Path) -> None:
    upstream = [{"question": f"q{i}", "answer": f"2*{i}=<<2*{i}={2 * i}>>{2 * i}\n#### {2 * i}"} for i in range(8)]
    pairs = [{"prompt": f"q{i}", "completion": f"How? ** {i}"} for i in range(1, 9)]
    sources = {}
    for name, rows in {"main": upstream, "socratic": pairs}.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources[name] = recipe.solutions(name, str(tmp_path / name))
    assert sources["main"]["q3"] == "2*3=6\n#### 6"
    mixed = recipe.sft_rows(sources, 6, random.Random(0))
    assert Counter(mixed["source"]) == {"main": 3, "socratic": 3}
    for row in mixed:
        asked = row["prompt"][-1]["content"]
        assert row["completion"][0]["content"] == sources[row["source"]][asked]
        assert row["prompt"][0] == {"role": "system", "content": recipe.MEASURED["system_prompt"]}
