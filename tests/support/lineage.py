"""A lineage small enough to replay in seconds: a model, rows and a recipe of three stages, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import runs, tiny

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<eos>' }}"
    "{% endgeneration %}{% else %}{{ m['content'] + '\n' }}{% endif %}{% endfor %}"
)
CPU = "use_cpu: true, bf16: false, report_to: none, disable_tqdm: true, learning_rate: 1e-3"

RECIPE = f"""\
name: small
about: three stages
base: {{base}}
monitor:
  probes: {{probes}}
  metrics: ead,length
  num_samples: 2
  reference_samples: 4
  max_new_tokens: 8
stages:
  sft:
    trainer: sft
    start: base
    data: {{{{path: {{sft}}, rows: 16, source_column: source, keep: [messages]}}}}
    template: {{{{chat: chat.jinja}}}}
    global_batch: 4
    args: {{{{{CPU}, max_steps: 4, per_device_train_batch_size: 2, save_steps: 2, assistant_only_loss: true}}}}
    monitor: {{{{every: 2}}}}
  dpo:
    trainer: dpo
    start: sft
    data: {{{{path: {{dpo}}, keep: [chosen, rejected]}}}}
    template: {{{{chat: chat.jinja}}}}
    global_batch: 4
    args: {{{{{CPU}, max_steps: 2, per_device_train_batch_size: 2, loss_type: [sigmoid_norm], beta: 5.0}}}}
  rl:
    trainer: grpo
    start: dpo
    data: {{{{path: {{rl}}, keep: [prompt, ground_truth, dataset], max_prompt_tokens: 40}}}}
    template: {{{{chat: chat.jinja}}}}
    global_batch: 4
    rewards:
      - {{{{function: math, weight: 10.0}}}}
      - {{{{function: constraints}}}}
    args: {{{{{CPU}, max_steps: 2, per_device_train_batch_size: 4, num_generations: 2, max_completion_length: 8}}}}
"""
REUSING = """\
name: other
base: {base}
monitor: {{probes: {probes}, metrics: "ead,length", num_samples: 2, reference_samples: 4, max_new_tokens: 8}}
stages:
  small-sft:
    reuse: small.yaml/sft
  dpo:
    trainer: dpo
    start: small-sft
    template: {{chat: chat.jinja}}
    data: {{path: {dpo}, keep: [chosen, rejected]}}
    global_batch: 4
    args: {{use_cpu: true, bf16: false, report_to: none, max_steps: 2, per_device_train_batch_size: 2}}
"""


def make(folder: Path) -> Path:
    """Writes all of it into `folder` and returns the recipe's path; other.yaml beside it reuses its first stage."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base"
    runs.model().save_pretrained(base)
    tiny.tokenizer(runs.TEXTS).save_pretrained(base)
    (folder / "chat.jinja").write_text(CHAT)
    paths: dict[str, Any] = {"base": base, "probes": folder / "probes.jsonl"}
    _write(paths["probes"], runs.PROBES)
    for name, row in (("sft", _conversation), ("dpo", _pair), ("rl", _question)):
        paths[name] = folder / f"{name}.jsonl"
        _write(paths[name], [row(i, line) for i, line in enumerate(runs.ROWS[:16])])
    (folder / "other.yaml").write_text(REUSING.format(**paths))
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE.format(**paths))
    return recipe


def _conversation(i: int, row: dict[str, str]) -> dict[str, Any]:
    return {"messages": _turns(row["prompt"], row["completion"]), "source": "one" if i % 4 else "other"}


def _pair(i: int, row: dict[str, str]) -> dict[str, Any]:
    # As Dolci-Think-DPO has it: a prompt in text beside whole conversations.
    return {
        "prompt": row["prompt"],
        "chosen": _turns(row["prompt"], row["completion"]),
        "rejected": _turns(row["prompt"], "no"),
    }


def _question(i: int, row: dict[str, str]) -> dict[str, Any]:
    if i % 2:
        return {"prompt": row["prompt"], "ground_truth": [row["completion"].split()[4][:-1]], "dataset": ["math"]}
    truth = '[{"instruction_id": ["punctuation:no_comma"], "kwargs": [null]}]'
    return {"prompt": row["prompt"], "ground_truth": [truth], "dataset": ["ifeval"]}


def _turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
