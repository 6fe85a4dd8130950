"""Makes what the Airflow of docker-compose.yaml must keep secret. Needs nothing but what Airflow brings.

Usage: ``python keys.py FOLDER``. A key that is there already stays as it is.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Callable

USER = "admin"
PASSPHRASE = "test"


def fernet_key() -> str:
    """Return a key that Airflow encrypts connections and Variables with."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def signing_key() -> str:
    """Return a key of 64 random bytes, as HMAC with SHA-512 wants it."""
    return secrets.token_hex(64)


def passwords() -> str:
    """Return the passwords of Airflow's users, as its simple auth manager keeps them."""
    return json.dumps({USER: secrets.token_urlsafe(12)})


def private_key() -> str:
    """Return a private key for logins to Snowflake (PEM), with the passphrase that the connection has."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    )
    return pem.decode()


KEYS: dict[str, Callable[[], str]] = {
    "fernet-key": fernet_key,
    "jwt-secret": signing_key,
    "secret-key": signing_key,
    "passwords.json": passwords,
    "snowflake-key.pem": private_key,
}


def main(folder: str) -> None:
    """Write each key that is missing into a file that only its owner may read."""
    for name, make in KEYS.items():
        path = Path(folder, name)
        if not path.exists():
            new = path.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_text(make())
            os.replace(new, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
