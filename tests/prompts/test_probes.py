"""Every form a probe can take, and the errors that come before training."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
import transformers
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from divmon.prompts import tasks
from divmon.prompts.probes import resolve, ungraded
from divmon.prompts.rendering import Renderer
from divmon.types import Probe, Prompt

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "A wren."},
    {"role": "user", "content": "Another one."},
]


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def only(spec: Any, **options: Any) -> Probe:
    (probe,) = resolve(spec, **options)
    return probe


def contents(probe: Probe) -> list[Any]:
    return [prompt.content for prompt in probe.prompts]


# Names


def test_a_name_is_a_task() -> None:
    assert [probe.name for probe in resolve("starter")] == ["starter"]
    assert len(only("starter", num_prompts=1_000).prompts) == 64


def test_a_task_on_a_local_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a, b@c.jsonl", {"question": "1 + 1?", "answer": "#### 2"})

    probe = only(f"gsm8k@{path}")

    assert (probe.name, probe.prompts[0].gold, probe.source) == ("gsm8k", "2", str(path))


@pytest.mark.parametrize("as_list", [True, False])
def test_several_names(tmp_path: Path, as_list: bool) -> None:
    path = jsonl(tmp_path / "gsm8k.jsonl", {"question": "1 + 1?", "answer": "#### 2"})
    names = [f"gsm8k@{path}", "starter"]

    assert [probe.name for probe in resolve(names if as_list else ", ".join(names))] == ["gsm8k", "starter"]


def test_a_probe_is_taken_as_it_is() -> None:
    mine = Probe("mine", (Prompt("a", "hi"), Prompt("b", "ho")))

    assert resolve(mine, num_prompts=1) == [mine]
    assert [probe.name for probe in resolve([mine, "starter"])] == ["mine", "starter"]


@pytest.mark.parametrize("name", ["gsmk8", "gsmk8@some.jsonl", "starter,gsmk8", "Name a bird."])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"no task named .* there are .*gsm8k, .*starter.*list of strings"):
        resolve(name)


def test_a_missing_file_is_named() -> None:
    for spec in ("none.jsonl", "gsm8k@none.jsonl", Path("none.jsonl"), ["starter", "none.jsonl"]):
        with pytest.raises(FileNotFoundError, match=r"no file 'none.jsonl'"):
            resolve(spec)


def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two probes are named 'starter'"):
        resolve("starter,starter")


@pytest.mark.parametrize("spec", [None, 3, {"prompt": "hi"}])
def test_what_is_no_form_is_told_the_forms(spec: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot make a probe of (NoneType|int|dict); give the name of a task"):
        resolve(spec)


# Files and lists


def test_a_file_of_prompts(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "prompt": "Say hi.", "gold": 18, "category": "creative", "note": "kept"},
        {"prompt": MESSAGES},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        {"prompt": "Say hi.", "category": "of my own"},
    ]

    probe = only(str(jsonl(tmp_path / "mine.jsonl", *rows)))

    assert probe.name == "mine"
    assert [prompt.id for prompt in probe.prompts] == ["x", "1", "2", "3"]
    assert contents(probe) == ["Say hi.", tuple(MESSAGES), ({"role": "user", "content": "ab"},), "Say hi."]
    assert [prompt.category for prompt in probe.prompts] == ["creative", "other", "other", "other"]
    assert probe.prompts[0].gold == "18"
    assert probe.prompts[0].row == rows[0]


def test_rows_are_grouped_by_task(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "task": ("sums", "names")[n % 2], "id": n // 2} for n in range(8)]

    sums, names = resolve(jsonl(tmp_path / "mine.jsonl", *rows), num_prompts=3)

    assert (sums.name, names.name) == ("sums", "names")
    assert {str(content) for content in contents(sums)} < {"0?", "2?", "4?", "6?"}
    assert len(sums.prompts) == len(names.prompts) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "hi"}, "expected a `prompt` or `messages`; the columns there are text"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": 3}, "expected text or a list of messages, came int: 3"),
        ({"prompt": []}, "expected text or a list of messages, came list"),
        ({"prompt": ["hi"]}, "message 1: expected {'role': ..., 'content': ...}, came 'hi'"),
        ({"prompt": [{"role": "human", "content": "hi"}]}, "message 1: no role 'human'; there are system, developer"),
        ({"prompt": [{"role": "user", "content": None}]}, "message 1: expected `content` to be text, came None"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "came one of type 'image'"),
        ({"prompt": MESSAGES[:3]}, "ends with an assistant turn"),
        ({"messages": MESSAGES[2:3]}, "the messages hold answers only"),
        ({"prompt": "hi", "gold": ["a"]}, r"expected `gold` to be text or a number, came \['a'\]"),
        ({"prompt": "hi", "id": 0}, "the id '0' is that of .*line 1 too"),
    ],
)
def test_a_bad_row_is_named_whatever_is_drawn(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "fine"}, row)

    with pytest.raises(ValueError, match=f"mine.jsonl, line 2: .*{reason}"):
        resolve(str(path), num_prompts=1)


def test_lists_of_prompts() -> None:
    assert contents(only(["Name a bird.", "Name a bird."])) == ["Name a bird."] * 2
    assert contents(only([MESSAGES, MESSAGES[1:2]])) == [tuple(MESSAGES), tuple(MESSAGES[1:2])]
    assert contents(only(MESSAGES)) == [tuple(MESSAGES)], "one conversation is one prompt"
    assert contents(only([{"prompt": "a"}, {"messages": MESSAGES[:3]}])) == ["a", tuple(MESSAGES[:2])]
    assert contents(only([[5, 6, 7]])) == [(5, 6, 7)]
    assert [probe.name for probe in resolve([{"prompt": "a", "task": "x"}, {"prompt": "b"}])] == ["x", "prompts"]
    with pytest.raises(ValueError, match="prompt 1 of the list: the prompt is empty"):
        resolve(["fine", ""])


def test_a_long_prompt_is_not_taken_for_a_path() -> None:
    assert len(only(["Tell me about birds. " * 500]).prompts) == 1


def test_the_subset_is_seeded_recorded_by_id_and_leaves_the_global_generator_alone() -> None:
    prompts = [f"{n}?" for n in range(100)]
    random.seed(1)
    before = random.getstate()

    few, same, other = (only(prompts, num_prompts=10, seed=seed) for seed in (0, 0, 1))

    assert random.getstate() == before
    assert few == same != other
    assert [prompts[int(prompt.id)] for prompt in few.prompts] == contents(few)


def test_a_number_of_prompts_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="expected num_prompts of at least 1, came 0"):
        resolve("starter", num_prompts=0)


# Data sets


def test_a_data_set() -> None:
    rows = [{"prompt": f"{n}?", "id": f"row-{n}", "gold": n} for n in range(9)]

    probe = only(datasets.Dataset.from_list(rows), num_prompts=4)

    assert probe.name == "dataset"
    assert [(prompt.id, prompt.content, prompt.gold) for prompt in probe.prompts] == [
        (f"row-{prompt.gold}", f"{prompt.gold}?", prompt.gold) for prompt in probe.prompts
    ]
    assert len(probe.prompts) == 4


def test_messages_are_cut_before_the_last_answer() -> None:
    answered = [*MESSAGES, {"role": "assistant", "content": "A tern."}]
    dataset = datasets.Dataset.from_list([{"messages": answered}, {"messages": MESSAGES}])

    assert contents(only(dataset)) == [tuple(MESSAGES), tuple(MESSAGES)]


def test_a_data_set_without_prompts_lists_its_columns() -> None:
    with pytest.raises(ValueError, match=r"row 0 of the data set: .*the columns there are asks, answer"):
        resolve(datasets.Dataset.from_list([{"asks": "1 + 1?", "answer": "2"}]))


@pytest.mark.parametrize("asks", ["question", "problem", "instruction", "query", "input"])
@pytest.mark.parametrize("answers", ["gold", "answer", "target", "ground_truth"])
def test_usual_columns_of_a_file(asks: str, answers: str, tmp_path: Path) -> None:
    (prompt,) = only(str(jsonl(tmp_path / "mine.jsonl", {asks: "1 + 1?", answers: 2}))).prompts
    assert (prompt.content, prompt.gold) == ("1 + 1?", "2")
    assert only([{"prompt": "p", "answer": ["a list", "of them"]}]).prompts[0].gold is None


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.jsonl.gz", "mine.tsv"])
def test_a_probe_file_of_any_format(name: str, tmp_path: Path) -> None:
    path, rows = tmp_path / name, pd.DataFrame({"question": ["1 + 1?", "2 + 2?"], "gold": ["2", "4"]})
    if name.endswith("parquet"):
        rows.to_parquet(path)
    elif name.endswith("gz"):
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    assert [(prompt.content, prompt.gold) for prompt in only(str(path)).prompts] == [("1 + 1?", "2"), ("2 + 2?", "4")]


def test_rows_of_a_known_task_are_graded_by_its_verifier_and_other_reference_answers_are_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i} + 1?", "gold": i + 1, "task": "gsm8k" if i % 2 else "sums"} for i in range(4)]
    probes = {probe.name: probe for probe in resolve(str(jsonl(tmp_path / "mine.jsonl", *rows)))}
    assert probes["gsm8k"].verifier == tasks.load("gsm8k").verifier and probes["sums"].verifier is None
    assert ungraded(probes.values()).startswith("reference answers that nothing grades by: 2 of sums. Name the task")
    assert ungraded([probes["gsm8k"]]) == ""
    bare = [{"prompt": "p", "task": "gsm8k"}]
    assert only(bare).verifier is None, "without a reference answer there is nothing to grade by"


def test_a_transform_of_the_user_is_not_run() -> None:
    def explode(batch: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("a random transform would move the run's generator")

    dataset = datasets.Dataset.from_list([{"prompt": "hi"}]).with_transform(explode)

    assert contents(only(dataset)) == contents(only("eval", eval_dataset=dataset)) == ["hi"]


# The trainer's own eval prompts, as each TRL trainer of the installed version holds them

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


@pytest.mark.parametrize("where", ["id", "category"])
def test_half_a_character_in_a_name_is_an_error_in_words(
    where: str,
) -> None:
    prompt = Prompt(**{"id": "p", "content": "what?", "category": "c", where: "half \ud83d of it"})
    with pytest.raises(ValueError, match="holds half a character; read its file as UTF-8"):
        Probe("own", (prompt,), 8)
