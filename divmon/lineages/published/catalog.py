"""The published checkpoints of Olmo 3, and how each is prompted.

The paper's 13, and the three Think models prompted without their reasoning, in an order that is the step of their
snapshots; and the branches of a repository, by training step. Nothing here was checked against the hub: where the hub
lists other branches, those are used.

Sources, where not said otherwise: the Olmo 3 report (arXiv 2512.13961) and the scripts of allenai/open-instruct for
repositories and what each starts from; a third party's list of revisions of July 2026 for branches.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from divmon.prompts import tasks
from divmon.types import Probe

Asked = Literal["plain", "chat", "think", "no-think", "auto"]
"""How it is prompted: in plain text; as one user turn of the chat template; the same with reasoning; the same with the
empty reasoning block prefilled (paper, protocol); with the chat template if the tokenizer has one."""

MAIN = "main"
OLMO = "allenai/Olmo-3-7B"
BASE = "allenai/Olmo-3-1025-7B"  # main is the branch stage3-step11921


@dataclass(frozen=True)
class Published:
    """One checkpoint and its place in a run."""

    name: str
    """Its name in the run: the paper's name of the model, or the branch."""
    repository: str
    revision: str
    step: int
    """Step of its snapshot: its position among the paper's models, or its training step."""
    asked: Asked
    stage: str
    """Name of the stage: the paper's name of its final model, or the repository's name."""
    lineage: str | None = None
    """None for base models, and if none is known."""
    model: str | None = None
    """Its name in the paper's tables; None if it is not in them."""
    tokenizer: str | None = None
    """Repository of the tokenizer and its chat template, unless the checkpoint's own."""

    @property
    def checkpoint(self) -> str:
        return self.repository if self.revision == MAIN else f"{self.repository}@{self.revision}"


def _paper() -> tuple[Published, ...]:
    # How the paper prompted each is known for chat models only: one user turn (paper, protocol). Base has no template;
    # the RL-Zero models are asked as plain text, which the report finds better than templates (section 6.1).
    rows: list[tuple[str, str, Asked, str | None]] = [
        ("base", BASE, "plain", None),
        ("think-sft", f"{OLMO}-Think-SFT", "think", "Think"),
        ("think-dpo", f"{OLMO}-Think-DPO", "think", "Think"),
        ("think", f"{OLMO}-Think", "think", "Think"),
        ("instruct-sft", f"{OLMO}-Instruct-SFT", "chat", "Instruct"),  # from Think-SFT: report 5.2.2, figure 2
        ("instruct-dpo", f"{OLMO}-Instruct-DPO", "chat", "Instruct"),
        ("instruct", f"{OLMO}-Instruct", "chat", "Instruct"),
        ("rl-zero-math", f"{OLMO}-RL-Zero-Math", "plain", "RL-Zero Math"),
        ("rl-zero-code", f"{OLMO}-RL-Zero-Code", "plain", "RL-Zero Code"),
        ("rl-zero-if", f"{OLMO}-RL-Zero-IF", "plain", "RL-Zero IF"),
        ("rl-zero-general", f"{OLMO}-RL-Zero-General", "plain", "RL-Zero General"),
        ("rl-zero-math-3.1", "allenai/Olmo-3.1-7B-RL-Zero-Math", "plain", "RL-Zero 3.1 Math"),
        ("rl-zero-code-3.1", "allenai/Olmo-3.1-7B-RL-Zero-Code", "plain", "RL-Zero 3.1 Code"),
        ("think-sft-nocot", f"{OLMO}-Think-SFT", "no-think", "Think, no thought"),
        ("think-dpo-nocot", f"{OLMO}-Think-DPO", "no-think", "Think, no thought"),
        ("think-nocot", f"{OLMO}-Think", "no-think", "Think, no thought"),
    ]
    return tuple(
        Published(name, repository, MAIN, step, asked, name, lineage, name, _TOKENIZERS.get(repository))
        for step, (name, repository, asked, lineage) in enumerate(rows)
    )


_TOKENIZERS = {
    # Its repository is said to hold another tokenizer, and no template. Think-DPO went on from its weights with this.
    f"{OLMO}-Think-SFT": f"{OLMO}-Think-DPO",
}
PAPER = _paper()
SIXTEEN, THIRTEEN = [c.name for c in PAPER], [c.name for c in PAPER if c.asked != "no-think"]

MOST = 500
PROMPTS = {"humaneval": 164, "math_geometry": 479, "ifeval": 541, "truthfulqa": 817}
"""Prompts per task in the paper, where there are not 500."""

STARTS = {
    f"{OLMO}-Think-SFT": BASE,
    f"{OLMO}-Think-DPO": f"{OLMO}-Think-SFT",
    f"{OLMO}-Think": f"{OLMO}-Think-DPO",
    f"{OLMO}-Instruct-SFT": f"{OLMO}-Think-SFT",
    f"{OLMO}-Instruct-DPO": f"{OLMO}-Instruct-SFT",
    f"{OLMO}-Instruct": f"{OLMO}-Instruct-DPO",
    **{f"{OLMO}-RL-Zero-{domain}": BASE for domain in ("Math", "Code", "IF", "General", "Mix")},
    **{f"allenai/Olmo-3.1-7B-RL-Zero-{domain}": BASE for domain in ("Math", "Code")},
}
"""The model that a repository's training started from."""

BRANCHES = {
    f"{OLMO}-Think-SFT": ("step{}", 1000, 43000, 1000),  # two third parties
    f"{OLMO}-Think": ("step_{:04}", 25, 1375, 25),  # two third parties, and the script's save_freq
    f"{OLMO}-Instruct": ("step_{}", 50, 400, 50),  # [UNCERTAIN]: step_300 on its card, step_400 seen, save_freq 50
    f"{OLMO}-RL-Zero-Math": ("step_{}", 100, 1900, 100),
    f"{OLMO}-RL-Zero-Code": ("step_{}", 100, 2900, 100),
    f"{OLMO}-RL-Zero-IF": ("step_{}", 100, 1900, 100),  # step_100 and step_1000 are said to be the same weights
    f"{OLMO}-RL-Zero-General": ("step_{}", 100, 800, 100),
    f"{OLMO}-RL-Zero-Mix": ("step_{}", 50, 950, 50),
    "allenai/Olmo-3.1-7B-RL-Zero-Math": ("step_{:04}", 100, 2800, 100),
    # Olmo-3.1-7B-RL-Zero-Code: 33 between 50 and 1950, mostly every 50, [UNCERTAIN] how they are written
}
"""Pattern, first step, last step and stride of the branches besides main; used when the hub does not answer."""


def expected_branches(repository: str) -> list[str]:
    """The branches of a repository according to the sources above.

    >>> expected_branches("allenai/Olmo-3-7B-Think")[:2]
    ['step_0025', 'step_0050']
    """
    if repository not in BRANCHES:
        return [MAIN]
    pattern, first, last, stride = BRANCHES[repository]
    return [*(pattern.format(step) for step in range(first, last + 1, stride)), MAIN]


def paper_checkpoints(globs: Sequence[str] = ()) -> list[Published]:
    """The paper's 13 models, or those of all 16 that match a glob. Raises ValueError: a glob matches no model."""
    return [c for c in PAPER if c.name in _chosen(SIXTEEN, globs or THIRTEEN, "the paper's models")]


def branch_checkpoints(repository: str, names: Sequence[str], globs: Sequence[str] = ()) -> list[Published]:
    """The model that training started from as step 0, if known, and the branches by training step.

    Branches without a step in their names are numbered in natural order. `main` comes last: its step is not known, and
    may be later than the last branch's. The start is prompted as the branches are, so that only the weights differ.

    Args:
        names: all branches; their steps do not depend on which are chosen.
        globs: which to take; all if empty.

    Raises:
        ValueError: a glob matches no branch.
    """
    main, keys = _of_repository(repository), _keys(names)
    chosen = _chosen(list(keys), globs or ["*"], f"the branches of {repository}")
    found = [
        replace(main, name=name, revision=name, step=keys[name], model=main.model if name == MAIN else None)
        for name in chosen
    ]
    start = next((c for c in PAPER if c.repository == STARTS.get(repository)), None)
    if start is None:
        return found
    tokenizer = start.tokenizer or start.repository
    if main.asked != start.asked:  # its own template may not provide for how the branches are prompted
        start, tokenizer = replace(start, model=None), _TOKENIZERS.get(repository, repository)
    return [replace(start, step=0, asked=main.asked, lineage=None, tokenizer=tokenizer), *found]


def _of_repository(repository: str) -> Published:
    """The main branch as the paper lists it, else by the repository's name."""
    known = next((c for c in PAPER if c.repository == repository), None)
    if known is not None:
        return known
    short, trained = repository.rpartition("/")[2], repository in STARTS
    asked: Asked = "plain" if "-RL-Zero-" in short and trained else "auto"
    lineage, tokenizer = short if trained else None, _TOKENIZERS.get(repository)
    return Published(short, repository, MAIN, 0, asked, short, lineage, tokenizer=tokenizer)


def _keys(names: Sequence[str]) -> dict[str, int]:
    """Step of each branch, in increasing order."""
    steps = {name: re.fullmatch(r"step[_-]?(\d+)", name) for name in names if name != MAIN}
    natural = sorted(steps, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    numbers = {name: int(found[1]) for name, found in steps.items() if found}
    if len(set(numbers.values())) < len(steps):
        numbers = {name: place for place, name in enumerate(natural, 1)}
    ordered = dict(sorted(numbers.items(), key=lambda item: item[1]))
    return ordered | ({MAIN: max(ordered.values(), default=0) + 1} if MAIN in names else {})


def _chosen(names: Sequence[str], globs: Sequence[str], what: str) -> list[str]:
    for glob in globs:
        if not any(fnmatch(name, glob) for name in names):
            raise ValueError(f"none of {what} matches {glob!r}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatch(name, glob) for glob in globs)]


def paper_probes(spec: Any, num_prompts: int = MOST, seed: int = 0) -> list[Probe]:
    """The probes that `divmon.prompts.probes.resolve` gives; with 500 prompts per task, the paper's numbers. Raises
    FileNotFoundError, ValueError: as `resolve`."""
    from divmon.prompts.probes import resolve

    def number(task: Any) -> int:
        return PROMPTS.get(str(task).partition("@")[0], num_prompts) if num_prompts == MOST else num_prompts

    names = spec.split(",") if isinstance(spec, str) else [spec]
    parts = [part for name in names for part in _members(name)]
    return [probe for part in parts for probe in resolve(part, num_prompts=number(part), seed=seed)]


def _members(name: Any) -> list[Any]:
    if not isinstance(name, str) or os.path.isfile(name):
        return [name]
    task, at, source = name.strip().partition("@")
    return [member + at + source for member in tasks.groups().get(task, [task])]


def facts(checkpoint: Published, path: Path) -> dict[str, Any]:
    """Facts about a checkpoint for the provenance of its snapshot."""
    commit = path.name if path.parent.name == "snapshots" else None
    return {
        "stage": checkpoint.stage,
        "lineage": checkpoint.lineage,
        "name": checkpoint.name,
        "checkpoint": checkpoint.checkpoint,
        "commit": commit,
        "path": str(path),
        "asked": checkpoint.asked,
        "paper_model": checkpoint.model,
    }
