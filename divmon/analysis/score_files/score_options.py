"""How `divmon score` and `divmon.score` read, grade and score completions; the flags of the command are these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from divmon.analysis.score_files.correctness import judged_tasks
from divmon.prompts import tasks
from divmon.prompts.rendering import Think


@dataclass
class Settings:
    """How completions are read, graded and scored."""

    task: str | None = None
    """Grade the outputs as answers to this task, except those of rows that bring 'correct' or name another task; the
    names are listed by divmon tasks."""
    prompt_column: str | None = None
    """Column that holds the prompts, where it has none of the usual names (prompt, question, problem, ...)."""
    output_column: str | None = None
    """Column that holds the completions, where it has none of the usual names (outputs, completions, response, ...)."""
    group_by: str | None = None
    """Column whose rows of one value are completions of one prompt; the id or the prompt where not told."""
    requests: str | None = None
    """Input file of a batch, which has the prompts: its output file names them by custom_id only."""
    think: str = "<think> </think>"
    """Tags around the reasoning, which is split off the answers; none leaves the completions as they stand."""
    allow_unsandboxed_code: bool = False
    """Run generated programs even where bubblewrap cannot contain them: they run as you, with your files
    and network."""
    metrics: str = "auto"
    """auto (all but nli, those of programs where there is code), or names with commas, or file.py:function."""
    embedder: str = "auto"
    """Text encoder: a hub id or a folder, or minilm, the small one of divmon[demo]; auto takes all-mpnet-base-v2 where
    it can be had, else minilm."""
    ead_vocab_size: int = 50257
    """The tokenizer's size, for EAD."""
    nli_model: str | None = None
    """Hub id or folder of the NLI classifier (roberta-large-mnli); naming one adds nli to auto."""
    nli_sentences: int | None = 3
    """Aligned sentences sampled for each pair of outputs; 3 as in the paper, None for all."""
    judge: str | None = None
    """MODEL@URL of the OpenAI-compatible endpoint that the metric judge_clusters asks (key: DIVMON_JUDGE_KEY)."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one, if not told."""

    def __post_init__(self) -> None:
        for name in ("ead_vocab_size", "nli_sentences"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name}: expected a whole number from 1 on, got {value!r}")
        if self.task and self.task not in judged_tasks():
            what = f"nothing grades the task {self.task!r}" if self.task in tasks.available() else "no such task"
            raise ValueError(f"task {self.task}: {what}; there are {', '.join(judged_tasks())}")
        self.tags()

    def tags(self) -> Think | None:
        """The tags of the reasoning; None where it is left in. Raises ValueError: `think` is neither two tags nor
        "none"."""
        words = self.think.split()
        if words == ["none"]:
            return None
        if len(words) != 2:
            raise ValueError(f"think: expected two tags, as in '<think> </think>', or none, got {self.think!r}")
        return Think(words[0], words[1])


class SettingsDict(TypedDict, total=False):
    """`Settings` as keywords, for editors and type checkers."""

    task: str | None
    prompt_column: str | None
    output_column: str | None
    group_by: str | None
    requests: str | None
    think: str
    allow_unsandboxed_code: bool
    metrics: str
    embedder: str
    ead_vocab_size: int
    nli_model: str | None
    nli_sentences: int | None
    judge: str | None
    device: str | None
