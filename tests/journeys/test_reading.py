"""What is done with runs that are there: report, compare, score; as README shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.journey import read_healthy, run_divmon, run_script

TWO_RUNS = """
from trl import SFTConfig, SFTTrainer

for name, rows in {"narrow": narrow(64), "broad": broad(64)}.items():
    args = SFTConfig(output_dir=f"runs/{name}", max_steps=8, learning_rate=5e-4, use_cpu=True, bf16=False,
                     report_to="tensorboard", save_strategy="no")
    data = Dataset.from_list(rows)
    callback = DiversityCallback("word_problems", every=4, num_prompts=6, max_new_tokens=32)
    SFTTrainer(copy.deepcopy(model), args=args, train_dataset=data, processing_class=tokenizer,
               callbacks=[callback]).train()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, little_base: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run_script(TWO_RUNS, folder)
    for name in ("narrow", "broad"):
        read_healthy(folder / "runs" / name, [0, 4, 8])
    return folder


@pytest.mark.timeout(300)
def test_a_report_of_one_run(runs: Path) -> None:
    run_divmon(runs, "report", "runs/narrow", "--out", "narrow.html")
    page = (runs / "narrow.html").read_text(encoding="utf-8")
    assert "word_problems" in page and "sbert" in page


@pytest.mark.timeout(300)
def test_two_runs_compared(runs: Path) -> None:
    seen = run_divmon(runs, "compare", "runs/narrow", "runs/broad", "--out", "both.html")
    assert "narrow" in seen and "broad" in seen and "word_problems" in seen
    assert (runs / "both.html").stat().st_size > 100_000


@pytest.mark.timeout(300)
def test_completions_that_exist_already(runs: Path) -> None:
    prompts = [(f"{a} + {a}?", a) for a in range(8)]
    for name, wordings in {"before": 4, "now": 1}.items():
        words = ("#### {n}", "It is {n}.", "We get {n} in the end. #### {n}", "Two times it makes {n}")
        rows = [
            {"prompt": p, "gold": str(2 * a), "outputs": [words[k % wordings].format(n=2 * a) for k in range(8)]}
            for p, a in prompts
        ]
        (runs / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    seen = run_divmon(runs, "score", "now.jsonl", "--reference", "before.jsonl", "--task", "gsm8k", "--out", "s.json")
    scored = json.loads((runs / "s.json").read_text())
    assert scored["metrics"]["sbert"]["mean"] == 0.0
    assert "sbert" in seen and "nan" not in seen.lower()
