"""Private keys that tests make."""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def private_key() -> RSAPrivateKey:
    return generate_private_key(65_537, 2048)


def private_pem(key: RSAPrivateKey | None = None) -> str:
    """The PEM of a private key, of a new one where none is given."""
    made = key or private_key()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
