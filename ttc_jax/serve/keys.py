"""API keys: who may ask."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ttc_jax import files
from ttc_jax.errors import UserError

VARIABLE = "TTC_API_KEYS"
SHORTEST = 16  # characters


class Keys:
    """The keys that are accepted; only digests of them are kept.

    Args:
      keys: none of them: everybody may ask.
    """

    def __init__(self, keys: Sequence[str] = ()):
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, authorization: str) -> bool:
        """Returns whether a header `Authorization` holds one of the keys.

        Every key is compared, each in constant time: how long it takes tells nothing.
        """
        if not self._digests:
            return True
        kind, _, given = authorization.partition(" ")
        digest = _digest(given.strip())
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found and kind.lower() == "bearer"


def read_keys(path: str, host: str, environment: Mapping[str, str] = os.environ) -> Keys:
    """Returns the keys in a file, one a line, and in the environment, separated by commas.

    Args:
      path: the file; "": none.
      host: what the server is bound to. Without keys it must be this machine alone.

    Raises:
      UserError: the file cannot be read, a key that is too short to be one, or no key where others
        can ask.
    """
    where = f"--config.serve.key_file={path}"
    found = []
    if path:
        try:
            text = files.contents(Path(path)).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UserError(f"{where}: {reason.lower()}") from error
        lines = (line.strip() for line in text.splitlines())
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise UserError(f"{where}: holds no key; write one a line, or leave the field empty")
    found += [key.strip() for key in environment.get(VARIABLE, "").split(",") if key.strip()]
    if any(len(key) < SHORTEST or not key.isascii() for key in found):
        raise UserError(
            f"{where if path else VARIABLE}: a key has fewer than {SHORTEST} characters, or others "
            "than ASCII; make one by: openssl rand -hex 32"
        )
    if not found and not is_loopback(host):
        raise UserError(
            f"--config.serve.host={host}: other machines could ask without a key; name a file of "
            f"keys by --config.serve.key_file=FILE, or set {VARIABLE}"
        )
    return Keys(found)


def is_loopback(host: str) -> bool:
    """Returns whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
