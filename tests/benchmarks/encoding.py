"""Encoding and NLI against the plain loop: prompt by prompt, in the order given, copies included. One thread.

    python tests/benchmarks/encoding.py [--device cuda] [--prompts 24] [--nli-prompts 1]

The loop encodes 16 completions of a prompt after another in batches of 32 as they come, and classifies all sentence
pairs of a prompt both ways, likewise; it gives the same values (checked first). Completions are all distinct, or
collapsed: 80 percent of a prompt's are copies. The encoder is the small one of the extra `demo`; the classifier is one
layer of roberta-large's shape with random weights, so that a pair costs what a model's layer costs. CPU seconds (on a
device wall seconds, synchronized); alternating runs, medians.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import answers
import torch
import transformers
from machine import head
from scoring import SAMPLES
from tokenizers import ByteLevelBPETokenizer

from divmon.scoring.encoders import NLIClassifier, TextEncoder
from divmon.scoring.metric_inputs import Inputs, Outputs, Resources
from divmon.scoring.metrics.nli import _SENTENCE_END, nli

BATCH, SENTENCES = 32, 3
Task = list[list[str]]


def encode_plainly(encoder: TextEncoder, texts_PK: Task) -> torch.Tensor:
    """As in published code: one call a prompt; its batch holds the prompt's completions."""
    model = encoder.load()._model
    rows = [
        model.encode(texts, batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False) for texts in texts_PK
    ]
    return torch.nn.functional.normalize(torch.stack(rows).float(), dim=-1)


def encode(encoder: TextEncoder, texts_PK: Task) -> torch.Tensor:
    return encoder.encode([text for texts in texts_PK for text in texts]).unflatten(0, (len(texts_PK), -1))


@torch.no_grad()
def nli_plainly(classifier: NLIClassifier, texts_PK: Task) -> torch.Tensor:
    """Prompt by prompt: every pair of completions, aligned sentences, both ways, in batches as they come."""
    classifier.load()
    values = []
    for texts in texts_PK:
        pairs = []
        for a, b in combinations(texts, 2):
            sentences = [[s.strip() for s in _SENTENCE_END.split(text) if s.strip()] for text in (a, b)]
            aligned = list(zip(*sentences, strict=False))
            if len(aligned) > SENTENCES:  # drawn as ours are, so that the values can be checked
                first, second = sorted((a, b))
                places = random.Random(f"0\0{first}\0{second}").sample(range(len(aligned)), SENTENCES)
                aligned = [aligned[place] for place in places]
            pairs += [pair for x, y in aligned for pair in ((x, y), (y, x))]
        scores = []
        for start in range(0, len(pairs), BATCH):
            premises, hypotheses = map(list, zip(*pairs[start : start + BATCH], strict=True))
            batch = classifier._tokenizer(
                premises, hypotheses, padding=True, truncation=True, max_length=512, return_tensors="pt"
            )
            probabilities = classifier._model(**batch.to(classifier.device)).logits.float().softmax(-1)
            scores.append(probabilities[:, classifier._columns[2]] - probabilities[:, classifier._columns[0]])
        values.append(1 - torch.cat(scores).double().mean().item())
    return torch.tensor(values, dtype=torch.float64)


def nli_ours(resources: Resources, texts_PK: Task) -> torch.Tensor:
    ids = [str(p) for p in range(len(texts_PK))]
    inputs = Inputs(Outputs("timed", ids, ["reasoning"] * len(ids), texts_PK), resources, None)
    return nli(inputs.prose_PK, inputs.classify_nli, SENTENCES, 0)


def classifier_folder(folder: Path, layers: int) -> str:
    """A classifier of roberta-large's shape but for its depth, and a tokenizer trained on the answers."""
    tokenizer = ByteLevelBPETokenizer()
    texts = [text for task in answers.solutions(200, 4, 4) for text in task]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(texts, vocab_size=4000, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))
    fast = transformers.RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    labels = dict(enumerate(("CONTRADICTION", "NEUTRAL", "ENTAILMENT")))
    config = transformers.RobertaConfig(
        vocab_size=len(fast),
        hidden_size=1024,
        num_attention_heads=16,
        intermediate_size=4096,
        num_hidden_layers=layers,
        max_position_embeddings=514,
        num_labels=3,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        initializer_range=0.1,
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def line(
    what: str,
    kind: str,
    theirs: Callable[[], torch.Tensor],
    ours: Callable[[], torch.Tensor],
    target: float,
    device: torch.device,
    runs: int,
    count: str,
) -> None:
    """A line of the table; half precision on a device agrees with itself to about 1e-2."""
    torch.testing.assert_close(ours().cpu(), theirs().cpu(), atol=1e-4 if device.type == "cpu" else 2e-2, rtol=0)
    seconds = [(timed(theirs, device), timed(ours, device)) for _ in range(runs)]
    slow, fast = (statistics.median(column) for column in zip(*seconds, strict=True))
    print(
        f"| {what} | {kind} | {count} | {slow:.2f} s | {fast:.2f} s | {slow / fast:.1f} | >= {target:g} |", flush=True
    )


def timed(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--prompts", type=int, default=24, help="whose completions are encoded")
    parser.add_argument("--nli-prompts", type=int, default=1, help="whose sentences are classified")
    parser.add_argument("--layers", type=int, default=1, help="of the classifier")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = torch.device(args.device)
    where = f"; on {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    of = "real answers, with variants of them" if answers.are_real() else "generated answers"
    print(head("torch", "transformers", "sentence-transformers"))
    print(f"K = {SAMPLES}; {of}; encoder {args.encoder}, classifier of {args.layers} layer(s) of 1,024{where}\n")
    print("| what | completions | prompts, texts | the loop | ours | times as fast | target |\n|--|--|--|--|--|--|--|")
    with tempfile.TemporaryDirectory() as folder:
        resources = Resources(
            embedder=args.encoder, nli_model=classifier_folder(Path(folder), args.layers), device=device
        )
        encoder, classifier = resources.models["encoder"], resources.models["nli"]
        assert isinstance(encoder, TextEncoder) and isinstance(classifier, NLIClassifier)
        for kind, distinct, targets in (("distinct", SAMPLES, (1, 1)), ("collapsed", 0.2 * SAMPLES, (3, 5))):
            texts = answers.solutions(args.prompts, SAMPLES, distinct)
            fewer = texts[: args.nli_prompts]
            for what, given, theirs, ours, target in (
                ("encoding", texts, lambda t=texts: encode_plainly(encoder, t), lambda t=texts: encode(encoder, t), 0),
                ("NLI", fewer, lambda t=fewer: nli_plainly(classifier, t), lambda t=fewer: nli_ours(resources, t), 1),
            ):
                count = f"{len(given)}, {sum(len(set(row)) for row in given)} distinct of {len(given) * SAMPLES}"
                line(what, kind, theirs, ours, targets[target], device, args.runs, count)


if __name__ == "__main__":
    main()
