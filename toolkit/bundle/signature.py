"""The signature of a bundle: model.sig, by the OpenSSF's `model-signing` with an elliptic curve's key, offline.

The signature covers every other file of the folder, as `model_signing verify key` checks it too. Verifying compares the
manifest that was opened with the one that was signed, so that no exchange of files meanwhile goes unseen: whoever reads
a file of the opened bundle compares it with that manifest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.bundle.format import Bundle
from toolkit.bundle.manifest import MANIFEST, MAX_SIGNATURE_BYTES, SIGNATURE
from toolkit.bundle.typed_json import parse_json
from toolkit.errors import ToolkitError, reason_of, require_packages, resource_error
from toolkit.files import atomic_file, canonical_json, read_regular

MAX_KEY_BYTES = 2**16


def sign_bundle(bundle: Bundle, key: str | Path) -> Path:
    """Sign an opened bundle with a private key; an earlier signature is replaced.

    Raises:
        ToolkitError: the key cannot be used, or the folder cannot be written.
    """
    require_packages("model_signing", purpose="toolkit sign")
    from model_signing import hashing, signing

    pem = _read_key(key, "private")
    fix = (
        f"openssl pkcs8 -topk8 -nocrypt -in {key} -out PLAIN_KEY" if "ENCRYPTED" in pem.decode(errors="replace") else ""
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SIGNATURE
        files = hashing.Config().set_ignored_paths(paths=[SIGNATURE])
        with _problems(f"{bundle.path} cannot be signed with {key}", fix):
            signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(files).sign(bundle.path, made)
        if _signed_manifest(made.read_bytes()) != _manifest_hash(bundle):
            raise ToolkitError(f"{bundle.path} has changed since it was opened", fix="the same command again")
        with atomic_file(
            bundle.path / SIGNATURE, fix="a copy of the bundle in a folder that can be written"
        ) as partial:
            partial.write_bytes(made.read_bytes())
    return bundle.path / SIGNATURE


def verify_bundle(bundle: Bundle, key: str | Path) -> None:
    """Check that the holder of a key's counterpart signed an opened bundle, and that no file has changed since.

    Raises:
        ToolkitError: no signature, one by another key, or a file that differs, is missing or was added.
    """
    require_packages("model_signing", purpose="verifying a signature")
    from model_signing import verifying

    path = bundle.path / SIGNATURE
    try:
        signature = read_regular(path, MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        raise ToolkitError(
            f"{bundle.path} is not signed: it has no {SIGNATURE}", fix=f"toolkit sign {bundle.path} --key PRIVATE_KEY"
        ) from None
    pem = _read_key(key, "public")
    with tempfile.TemporaryDirectory() as scratch:  # copies: what is verified is what is read here
        copy, public = Path(scratch) / SIGNATURE, Path(scratch) / "key"
        copy.write_bytes(signature)
        public.write_bytes(pem)
        with _problems(f"{path} does not hold for {key}", "the signer's public key, or a bundle as it was signed"):
            verifying.Config().use_elliptic_key_verifier(public_key=public).verify(bundle.path, copy)
    if _signed_manifest(signature) != _manifest_hash(bundle):
        raise ToolkitError(f"{bundle.path}: {SIGNATURE} is of another {MANIFEST}", fix="the bundle as it was signed")


def _manifest_hash(bundle: Bundle) -> str:
    return hashlib.sha256(canonical_json(bundle.manifest)).hexdigest()


def _signed_manifest(signature: bytes) -> str | None:
    """Read the SHA-256 of the manifest from a signature that was verified: in-toto's statement in a DSSE envelope."""
    statement = json.loads(base64.b64decode(parse_json(signature)["dsseEnvelope"]["payload"]))
    hashes = {
        file["name"]: file["digest"] for file in statement["predicate"]["resources"] if file["algorithm"] == "sha256"
    }
    return hashes.get(MANIFEST)


def _read_key(key: str | Path, side: str) -> bytes:
    try:
        return read_regular(Path(key), MAX_KEY_BYTES)
    except OSError as error:
        raise ToolkitError(f"--key {key}: {error.strerror}", expected=f"a {side} key in PEM") from None


@contextmanager
def _problems(problem: str, fix: str) -> Iterator[None]:
    """Say what the library refuses; it raises errors of its own and of the libraries that it calls."""
    try:
        yield
    except Exception as error:
        if resource_error(error) is not None:
            raise
        raise ToolkitError(f"{problem}: {reason_of(error)[:500]}", fix=fix) from error
