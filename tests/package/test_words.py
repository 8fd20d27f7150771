"""One word for truncation in every text that a user reads, and TRL's names for what TRL names."""

from __future__ import annotations

import re
from pathlib import Path

import trl
from support import ROOT

from divmon.scoring.figure_registry import Registry
from divmon.types import OLD_FIGURES

READ = ("README.md", "divmon/**/*", "recipes/**/*", "examples/*")
KINDS = {".py", ".md", ".html", ".js", ".yaml", ".ipynb"}
OTHER_WORDS = re.compile(r"cut[ _-]off|length[ _]limit|no_signal|clipped (text|completion|answer)", re.IGNORECASE)
OF_OLD_RUNS = {"divmon/types.py": 3, "divmon/storage/reader.py": 1, "divmon/CHANGELOG.md": 3}
"""Places that must name the old words: what stored runs are read by, and what says so."""


def test_truncated_is_the_one_word() -> None:
    files = {path for pattern in READ for path in ROOT.glob(pattern) if path.suffix in KINDS}
    assert len(files) > 300
    found = {str(path.relative_to(ROOT)): OTHER_WORDS.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {name: len(words) for name, words in found.items() if words} == OF_OLD_RUNS


def test_figures_that_trl_logs_have_its_names() -> None:
    source = (Path(trl.__file__).parent / "trainer/grpo_trainer.py").read_text(encoding="utf-8")
    names = {"clipped_ratio", "frac_reward_zero_std"}
    assert names <= set(OLD_FIGURES.values()) and all(Registry()[name].meaning for name in names)
    assert all(re.search(rf"[\"/]{name}\"", source) for name in names)
