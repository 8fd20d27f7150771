"""One file of each kind, added from outside, is found and used: what tests/README.md promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support import ROOT, TESTS, forks

FILES = {
    "scoring/metrics/shouts.py": '''
        """Upper case."""
        import torch

        def shouts(texts_PK):
            """Share of upper-case answers | 0 to 1 | ours"""
            share = [[float(t.isupper()) for t in texts if t is not None] for texts in texts_PK]
            return torch.tensor([sum(s) / len(s) if s else float("nan") for s in share], dtype=torch.float64)
    ''',
    "grading/verifiers/loud.py": '''
        """Loud answers are right."""
        from divmon.types import Prompt, Verdict

        def loud(text: str, prompt: Prompt) -> Verdict:
            return Verdict(text.isupper())
    ''',
    "prompts/tasks/echo.py": '''
        """A task of one's own."""
        from pathlib import Path
        from divmon.prompts.tasks import Task

        def echo() -> Task:
            return Task(name="echo", category="other", file=Path(__file__).with_name("echo.jsonl"), rows=2,
                        prompt=lambda row: row["prompt"], gold=lambda row: None, max_new_tokens=8, verifier="loud")
    ''',
}
SCRIPT = '''
from divmon import DiversityMonitor
from divmon.sampling import Drawing
from divmon.types import Sample
from support import runs, tiny

class Parrot:
    """An engine: gives the prompt back, loudly at every second time."""
    name, reason = "parrot", "asked for"

    def draw(self, requests, *, seed, step, progress=lambda n: None):
        samples = [Sample(r.prompt.task, r.prompt.id, k, "ABC" if k % 2 else "abc", "eos", 3)
                   for r in requests for k in range(r.num_samples)]
        return Drawing(samples, {}, 3 * len(samples))

class Lines:
    """A logger."""
    def log(self, snapshot, probes):
        print("logged", snapshot.step, [p.name for p in probes], snapshot.score("echo", "shouts").mean,
              snapshot.score("echo", "accuracy").mean)

    def close(self):
        print("closed")

monitor = DiversityMonitor("echo", metrics="shouts", num_samples=2, engine=Parrot(), loggers=[Lines()],
                           output_dir="run", progress=False)
monitor.measure(None, tiny.tokenizer(runs.TEXTS), 0)
monitor.close()
'''


def test_one_of_each_is_a_file(tmp_path: Path) -> None:
    package = tmp_path / "divmon"
    shutil.copytree(ROOT / "divmon", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        lines = text.strip("\n").splitlines()
        (package / name).write_text("\n".join(line[8:] for line in lines) + "\n")
    (package / "prompts/tasks/echo.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)])}
    done = forks.run(["script.py"], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "logged 0 ['echo'] 0.5 0.5\n" in done.stdout and done.stdout.endswith("closed\n")
    listing = [sys.executable, "-m", "divmon", "tasks"]
    shown = subprocess.run(listing, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "echo" in shown
