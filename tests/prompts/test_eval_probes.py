"""Probes from the evaluation rows of every trainer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
import trl
from support.probe_rows import contents, only
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from divmon.prompts.probes import resolve
from divmon.prompts.rendering import Renderer
from divmon.types import Prompt

USER, ANSWER = [{"role": "user", "content": "name a bird"}], [{"role": "assistant", "content": "wren"}]


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Bytes as tokens, and the markers of a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(special + alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>", additional_special_tokens=special[:2]
    )
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = transformers.Olmo3Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, pad_token_id=3, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    transformers.Olmo3ForCausalLM(config).save_pretrained(folder)
    return transformers.Olmo3ForCausalLM.from_pretrained(folder)


def trainer_of(kind: str, rows: list[dict[str, Any]], tokenizer: Any, model: Any, folder: Path, **options: Any) -> Any:
    dataset = datasets.Dataset.from_list(rows)
    args = getattr(trl, f"{kind}Config")(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, **options)
    rewards = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)} if kind in ("GRPO", "RLOO") else {}
    return getattr(trl, f"{kind}Trainer")(
        model, args=args, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer, **rewards
    )


GROUP = {"num_generations": 2, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2}


TRAINED: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
    ("SFT", {"prompt": USER, "completion": ANSWER}, {}, tuple(USER)),
    ("SFT", {"prompt": "a bird:", "completion": " wren"}, {}, "a bird:"),
    ("SFT", {"messages": USER + ANSWER}, {}, tuple(USER)),
    ("SFT", {"messages": USER + ANSWER + USER + ANSWER}, {"assistant_only_loss": True}, tuple(USER + ANSWER + USER)),
    (
        "DPO",
        {"prompt": USER, "chosen": ANSWER, "rejected": [{"role": "assistant", "content": "a tern"}]},
        {},
        tuple(USER),
    ),
    ("DPO", {"chosen": USER + ANSWER, "rejected": [*USER, {"role": "assistant", "content": "a"}]}, {}, tuple(USER)),
    ("KTO", {"prompt": USER, "completion": ANSWER, "label": True}, {"per_device_train_batch_size": 2}, tuple(USER)),
    ("GRPO", {"prompt": USER, "answer": "wren"}, GROUP, tuple(USER)),
    ("RLOO", {"prompt": "a bird:", "answer": "wren"}, GROUP, "a bird:"),
]


@pytest.mark.parametrize(("kind", "row", "options", "expected"), TRAINED)
def test_eval_rows_of_every_trainer(
    kind: str, row: dict[str, Any], options: dict[str, Any], expected: Any, tokenizer: Any, model: Any, tmp_path: Path
) -> None:
    trainer = trainer_of(kind, [row] * 4, tokenizer, model, tmp_path, **options)

    assert contents(only("eval", eval_dataset=trainer.eval_dataset, tokenizer=tokenizer)) == [expected] * 4


@pytest.mark.parametrize(
    ("kind", "row", "options", "expected"), [case for case in TRAINED if case[0] in ("SFT", "DPO", "KTO")]
)
def test_ids_alone_say_what_the_renderer_makes_of_the_raw_columns(
    kind: str, row: dict[str, Any], options: dict[str, Any], expected: Any, tokenizer: Any, model: Any, tmp_path: Path
) -> None:
    """Our rendering of an eval prompt is token for token the one the trainer trains on."""
    trainer = trainer_of(kind, [row] * 2, tokenizer, model, tmp_path, **options)
    ids = trainer.eval_dataset.remove_columns(list(row))
    if "prompt" in ids.column_names:  # DPO extracts it
        ids = ids.remove_columns("prompt")
    renderer = Renderer(tokenizer, chat=not isinstance(expected, str))
    rendered = renderer.render("eval", Prompt("0", expected)).input_ids

    if "messages" in row and not options:
        with pytest.raises(ValueError, match="text without a mark where the prompt ends"):
            resolve("eval", eval_dataset=ids)
    else:
        assert contents(only("eval", eval_dataset=ids, tokenizer=tokenizer)) == [rendered] * 2


def test_packed_rows_give_their_first_prompt(tokenizer: Any, model: Any, tmp_path: Path) -> None:
    rows = [{"prompt": f"bird {n}:", "completion": " wren"} for n in range(4)]
    trainer = trainer_of("SFT", rows, tokenizer, model, tmp_path, packing=True, max_length=30)
    assert trainer.eval_dataset.column_names == ["input_ids", "labels", "seq_lengths"]

    probe = only("eval", eval_dataset=trainer.eval_dataset, tokenizer=tokenizer)

    texts = {tokenizer.decode(prompt.content) for prompt in probe.prompts}
    assert len(texts) == len(trainer.eval_dataset)
    assert texts < {row["prompt"] for row in rows}


def test_rows_with_tools_keep_the_trainer_s_ids() -> None:
    row = {"prompt": USER, "tools": "[]", "input_ids": [7, 8, 9], "labels": [-100, -100, 9]}

    assert contents(only("eval", eval_dataset=[row])) == [(7, 8)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"input_ids": [7, 8, 9], "completion_mask": [0, 0, 1]}, (7, 8)),
        ({"input_ids": [7, 8, 9, 10, 11], "assistant_masks": [0, 1, 0, 0, 1]}, (7, 8, 9, 10)),
        ({"input_ids": [7, 8, 9], "completion_mask": [0, 1, 1], "assistant_masks": [0, 0, 1]}, (7, 8)),
        ({"input_ids": [3, 3, 8, 9], "attention_mask": [0, 0, 1, 1], "labels": [-100, -100, -100, 9]}, (8,)),
        ({"input_ids": [3, 3, 8, 9, 3], "labels": [-100, -100, -100, 9, -100]}, (8,)),
        ({"input_ids": torch.tensor([7, 8, 9]), "labels": torch.tensor([-100, 8, 9])}, (7,)),
        ({"prompt_input_ids": [7, 8], "chosen_input_ids": [9]}, (7, 8)),
    ],
)
def test_tokenized_rows_of_other_trainers(row: dict[str, Any], expected: tuple[int, ...], tokenizer: Any) -> None:
    assert contents(only("eval", eval_dataset=[row], tokenizer=tokenizer)) == [expected]


@pytest.mark.parametrize(
    "row",
    [
        {"input_ids": [7, 8, 9]},
        {"input_ids": [7, 8, 9], "labels": [7, 8, 9]},
        {"input_ids": [7, 8, 9], "labels": [-100, -100, -100]},
        {"text": "a bird", "input_ids": [7, 8, 9], "labels": [7, 8, 9]},
    ],
)
def test_text_without_a_mark_says_what_to_give(row: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"no prompt could be read from the eval set 'eval'.*Give the eval set a column"
    ):
        resolve("eval", eval_dataset=[row])


def test_an_eval_set_is_measured_without_its_unreadable_rows() -> None:
    dataset = [{"prompt": "a"}, {"prompt": ""}, {"prompt": "c"}]

    probe = only("eval", eval_dataset=dataset)

    assert [prompt.id for prompt in probe.prompts] == ["0", "2"]
    assert "1 rows without a prompt left out (row 1: the prompt is empty)" in probe.source


def test_no_eval_set_says_so() -> None:
    with pytest.raises(ValueError, match="the trainer has no eval_dataset; pass one"):
        resolve("eval")


def test_a_dict_of_eval_sets_gives_a_probe_for_each() -> None:
    sets = datasets.DatasetDict(math=datasets.Dataset.from_list([{"prompt": "a"}]))
    sets["code"] = datasets.Dataset.from_list([{"prompt": "b"}])

    assert {probe.name: contents(probe) for probe in resolve("eval", eval_dataset=sets)} == {
        "eval_math": ["a"],
        "eval_code": ["b"],
    }


class Stream(torch.utils.data.IterableDataset):
    """Rows without an end, as a streamed torch data set has."""

    def __iter__(self) -> Iterator[dict[str, str]]:
        return ({"prompt": f"{n}?"} for n in iter(int, 1))


def test_of_a_stream_the_first_rows_are_taken() -> None:
    stream = datasets.Dataset.from_list([{"prompt": f"{n}?"} for n in range(9)]).to_iterable_dataset()

    assert contents(only("eval", eval_dataset=stream, num_prompts=3)) == ["0?", "1?", "2?"]
    assert contents(only(stream, num_prompts=2)) == ["0?", "1?"]
    assert contents(only("eval", eval_dataset=Stream(), num_prompts=2)) == ["0?", "0?"]


def test_the_names_import_neither_torch_nor_transformers() -> None:
    code = "import sys; from divmon.prompts.probes import resolve; resolve('starter'); resolve(['starter'])"
    code += "; import divmon.prompts.rendering; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
