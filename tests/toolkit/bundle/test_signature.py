"""A signature holds for the bundle as it was signed, by its key, and for nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.keys import write_keys
from toolkit.bundle import signature
from toolkit.bundle.format import open_bundle, resealed, write_bundle
from toolkit.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from toolkit.bundle.signature import sign_bundle, verify_bundle
from toolkit.errors import ToolkitError


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own, other (PEM, .pub beside each), and locked (with a password)."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        write_keys(folder / name)
    write_keys(folder / "locked", "secret")
    return folder


@pytest.fixture
def signed(tiny_onnx: Path, tmp_path: Path, keys: Path) -> Path:
    out = shutil.copytree(tiny_onnx, tmp_path / "bundle")
    sign_bundle(open_bundle(out), keys / "own")
    return out


def test_a_signed_bundle_is_the_same_bundle(signed: Path, tiny_onnx: Path, keys: Path) -> None:
    bundle = open_bundle(signed)
    assert bundle.digest == open_bundle(tiny_onnx).digest
    verify_bundle(bundle, keys / "own.pub")
    sign_bundle(bundle, keys / "other")  # the last signature counts
    verify_bundle(bundle, keys / "other.pub")
    assert sorted(path.name for path in signed.parent.iterdir()) == ["bundle"]


def test_the_library_s_own_command_agrees(signed: Path, keys: Path) -> None:
    import model_signing

    def verify() -> None:
        model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys / "own.pub").verify(
            signed, signed / SIGNATURE
        )

    verify()
    (signed / "vocab.txt").write_text("another")
    with pytest.raises(ValueError, match="mismatch"):
        verify()


@pytest.mark.parametrize("key", ["other.pub", "own", "missing", "locked.pub"])
def test_another_key_is_refused(key: str, signed: Path, keys: Path) -> None:
    with pytest.raises(ToolkitError, match="No such file" if key == "missing" else f"does not hold for .*{key}"):
        verify_bundle(open_bundle(signed), keys / key)


@pytest.mark.parametrize("name", ["model.onnx", "README.md", MANIFEST, SIGNATURE])
def test_a_file_that_is_tampered_with_after_the_opening_is_noticed(name: str, signed: Path, keys: Path) -> None:
    bundle = open_bundle(signed)
    content = bytearray((signed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / name).write_bytes(content)
    with pytest.raises(ToolkitError, match="does not hold for"):
        verify_bundle(bundle, keys / "own.pub")


def test_files_exchanged_between_opening_and_verifying_are_noticed(signed: Path, keys: Path, tmp_path: Path) -> None:
    good = shutil.copytree(signed, tmp_path / "good")
    with resealed(open_bundle(signed)) as (staging, manifest):
        (staging / "special_tokens_map.json").write_text("{}")
        manifest["seed"] = 7
    evil = open_bundle(signed)
    shutil.rmtree(signed)
    shutil.copytree(good, signed)  # what lies there is signed; what was opened is not
    with pytest.raises(ToolkitError, match=f"{SIGNATURE} is of another {MANIFEST}"):
        verify_bundle(evil, keys / "own.pub")


def test_a_new_seal_ends_a_signature_and_an_unsigned_bundle_says_so(
    signed: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mit", "apache-2.0"):
        with resealed(open_bundle(signed)) as (_, manifest):
            manifest["license"] = name
    assert capsys.readouterr().out.count(f"{signed} is another bundle now, and unsigned: toolkit sign ") == 1
    with pytest.raises(ToolkitError, match=f"is not signed: it has no {SIGNATURE}") as caught:
        verify_bundle(open_bundle(signed), keys / "own.pub")
    assert "toolkit sign" in caught.value.fix


def test_a_signature_of_another_bundle_does_not_carry_over(
    signed: Path, tiny_student: Path, tmp_path: Path, keys: Path
) -> None:
    other = shutil.copytree(tiny_student, tmp_path / "other")
    shutil.copy(signed / SIGNATURE, other / SIGNATURE)
    with pytest.raises(ToolkitError, match="does not hold for"):
        verify_bundle(open_bundle(other), keys / "own.pub")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"dsseEnvelope": {"payload": "e30="}}'])
def test_a_signature_that_is_none_is_refused(content: bytes, signed: Path, keys: Path) -> None:
    (signed / SIGNATURE).write_bytes(content)
    with pytest.raises(ToolkitError, match="does not hold for"):
        verify_bundle(open_bundle(signed), keys / "own.pub")


def test_a_signature_is_read_in_bounded_memory(signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_SIGNATURE_BYTES", 100)
    with pytest.raises(ToolkitError, match="expected: at most 100"):
        verify_bundle(open_bundle(signed), keys / "own.pub")


def test_keys_that_cannot_sign(tiny_onnx: Path, tmp_path: Path, keys: Path) -> None:
    bundle = open_bundle(shutil.copytree(tiny_onnx, tmp_path / "bundle"))
    with pytest.raises(ToolkitError, match="encrypted") as caught:
        sign_bundle(bundle, keys / "locked")
    assert f"openssl pkcs8 -topk8 -nocrypt -in {keys / 'locked'}" in caught.value.fix
    with pytest.raises(ToolkitError, match="cannot be signed"):
        sign_bundle(bundle, keys / "own.pub")
    assert not (bundle.path / SIGNATURE).exists()


def test_no_bundle_lists_a_signature(tiny_onnx: Path, tmp_path: Path) -> None:
    stored = open_bundle(tiny_onnx).manifest
    manifest: Manifest = json.loads(json.dumps({k: v for k, v in stored.items() if k not in ("files", "digest")}))
    with write_bundle(tmp_path / "b", manifest) as staging:
        for name in stored["files"]:
            shutil.copy(tiny_onnx / name, staging / name)
        (staging / SIGNATURE).write_bytes(b"{}")
    with pytest.raises(ToolkitError, match=f"'{SIGNATURE}' is no file's path"):
        open_bundle(tmp_path / "b")
