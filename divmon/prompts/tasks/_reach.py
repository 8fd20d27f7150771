"""Can a task's rows be had here and now? Asked of the package, a folder, the cache and the hub, within seconds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from divmon.prompts.tasks import Task

SECONDS = 5.0
"""For all answers of the hub together; a name server that never answers takes no longer."""


def reach(tasks: Sequence[Task], folder: Path | None = None, seconds: float = SECONDS) -> dict[str, tuple[bool, str]]:
    """(whether, where or why not) of each task, by its name.

    Args:
        folder: holds a <task>.jsonl for some of them, looked at first.
    """
    found = {task.name: _here(task, folder) for task in tasks}
    asked = [task for task in tasks if not found[task.name][0]]
    return found | _on_the_hub(asked, seconds)


def _here(task: Task, folder: Path | None) -> tuple[bool, str]:
    if folder and (folder / f"{task.name}.jsonl").is_file():
        return True, str(folder / f"{task.name}.jsonl")
    if task.file:
        return True, "in the package"
    return (True, "in the cache") if _in_cache(task) else (False, "")


def _in_cache(task: Task) -> bool:
    """Whether the datasets library has prepared the split before; it then loads without the hub."""
    from huggingface_hub import constants

    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets").expanduser()
    wanted = _plain(task.dataset.replace("/", "___"))
    # The library writes CamelCase names as snake_case.
    folders = [entry for entry in cache.iterdir() if _plain(entry.name) == wanted] if cache.is_dir() else []
    return any(any(entry.glob(f"{task.subset or 'default'}/*/*/*-{task.split}*.arrow")) for entry in folders)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _on_the_hub(tasks: Sequence[Task], seconds: float) -> dict[str, tuple[bool, str]]:
    """Asked all at once, in threads that may be left behind: some calls to a network know no time limit."""
    if not tasks:
        return {}
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return {task.name: (False, "not cached, and HF_HUB_OFFLINE is set") for task in tasks}
    answers: dict[str, tuple[bool, str]] = {}

    def ask(task: Task) -> None:
        try:
            HfApi().dataset_info(task.dataset, revision=task.revision, timeout=seconds)
            answers[task.name] = True, "on the hub"
        except Exception as error:  # the hub and the way to it fail in many ways
            text = str(error).strip()
            reason = text.splitlines()[0][:80] if text else type(error).__name__
            answers[task.name] = False, f"not cached; the hub: {reason}"

    threads = [threading.Thread(target=ask, args=(task,), daemon=True) for task in tasks]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    silent = (False, f"not cached; the hub: no answer within {seconds:g} s")
    return {task.name: answers.get(task.name, silent) for task in tasks}
