"""Bearer keys: several at once (for rotation), compared in constant time."""

import hashlib
import hmac
from pathlib import Path

from gpuctl_serving.kit.errors import LoadFailed


class ApiKeys:
    """The keys of one file, one a line; empty lines and lines that start with `#` do not count."""

    def __init__(self, keys: list[str]) -> None:
        # Digests have one length, so a comparison tells nothing about a key's length either.
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> "ApiKeys":
        """Reads the file. Raises LoadFailed when it cannot be read or holds no key."""
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as failure:
            raise LoadFailed(f"GPUCTL_API_KEYS_FILE={path} cannot be read: {failure}") from failure
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise LoadFailed(
                f"GPUCTL_API_KEYS_FILE={path} holds no key. Write one key a line, or unset the variable."
            )
        return cls(keys)

    def admits(self, authorization: str) -> bool:
        """Whether an `Authorization` header carries one of the keys. Looks at all of them, always."""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found and scheme.lower() == "bearer"
