"""How the caches are configured."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gpuctl_serving.caches.memory import Bounds
from gpuctl_serving.engines.settings import ModelSettings
from gpuctl_serving.kit.settings import MIB

#: The secret that holds Redis' password, by its name in `secrets`.
PASSWORD_SECRET = "REDIS_PASSWORD"  # noqa: S105 - a name, not a password
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class RedisPlace:
    """Where the second level is and how it is used."""

    url: str
    password: str | None
    #: Milliseconds a value lives; 0 leaves that to the server.
    ttl_ms: int
    #: Seconds a request waits.
    patience: float


@dataclass(frozen=True, kw_only=True)
class CachedSettings(ModelSettings):
    """What the embedder and the reranker read about their caches. 0 entries or 0 bytes switch memory off."""

    cache_entries: int = field(default=10_000, metadata={"min": 0})
    cache_bytes: int = field(default=32 * MIB, metadata={"min": 0})
    #: How long an answer is kept, in memory and in Redis; 0 keeps it until there is no room.
    cache_ttl_ms: int = field(default=3_600_000, metadata={"min": 0})
    #: `redis://host:6379/0`, `rediss://` for TLS, `unix:///path`; empty means no second level.
    redis_url: str = ""
    #: How long a request waits for Redis.
    redis_timeout_ms: int = field(default=5, metadata={"min": 1, "max": 1000})


def bounds_of(settings: CachedSettings) -> Bounds:
    """The sizes of the first level."""
    return Bounds(settings.cache_entries, settings.cache_bytes, settings.cache_ttl_ms / 1000)


def place_of(settings: CachedSettings) -> RedisPlace | None:
    """The second level, if one is configured. Raises ValueError with what to write instead."""
    if not settings.redis_url:
        return None
    if problem := _url_problem(settings.redis_url):
        raise ValueError(problem)
    return RedisPlace(
        settings.redis_url,
        _password(settings.secrets_dir),
        settings.cache_ttl_ms,
        settings.redis_timeout_ms / 1000,
    )


def _url_problem(url: str) -> str | None:
    """What is wrong with it, or None. Repeats nothing of it: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "GPUCTL_REDIS_URL is no URL. Write redis://host:6379/0."
    if parts.scheme not in SCHEMES:
        return (
            "GPUCTL_REDIS_URL does not begin with redis://, rediss:// (TLS) or unix://. "
            "Write redis://host:6379/0."
        )
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        return "GPUCTL_REDIS_URL names no host. Write redis://host:6379/0."
    return None


def _password(secrets_dir: Path | None) -> str | None:
    """The password out of the secret's file; None when there is no such secret."""
    file = secrets_dir / PASSWORD_SECRET if secrets_dir else None
    if file is None or not file.exists():
        return None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as failure:
        raise ValueError(f"The secret {PASSWORD_SECRET} cannot be read: {type(failure).__name__}.") from None
