"""The monitor in TRL's trainers, as README shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.journey import read_healthy, run_script

SFT = """
from trl import SFTConfig, SFTTrainer

args = SFTConfig(output_dir="runs/a", max_steps=8, use_cpu=True, bf16=False, report_to="tensorboard")
trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_list(narrow(64)), processing_class=tokenizer,
                     callbacks=[DiversityCallback({options})])
trainer.train()
"""


@pytest.mark.timeout(300)
def test_the_callback_without_options(tmp_path: Path) -> None:
    """64 prompts of six categories, K 16 and a reference of 64: only answers are cut short and steps are few."""
    run_script(SFT.format(options="every=4, max_new_tokens=24"), tmp_path)
    run = read_healthy(tmp_path / "runs/a", [0, 4, 8])
    assert run.samples.groupby("step").size().to_dict() == {0: 64 * 64, 4: 64 * 16, 8: 64 * 16}
    assert {"sbert", "ast_subtree"} <= set(run.decomposition.metric)
