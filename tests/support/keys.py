"""Keys that sign bundles."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec


def write_keys(private: Path, password: str = "") -> Path:
    """Write a new private key in PEM, and beside it, as PRIVATE.pub, its public key, which is returned."""
    key = ec.generate_private_key(ec.SECP256R1())
    lock = pem.BestAvailableEncryption(password.encode()) if password else pem.NoEncryption()
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, lock))
    public = private.with_name(f"{private.name}.pub")
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return public
