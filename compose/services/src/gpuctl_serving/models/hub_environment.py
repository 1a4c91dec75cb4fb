"""What the hub's own tools read from the environment and keep on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.models.errors import ModelProblem

_TRUE = {"1", "on", "yes", "true"}
_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubEnvironment:
    """HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, and where the cache of the hub's tools is."""

    endpoint: str
    offline: bool
    #: Never printed: `repr` leaves it out.
    token: str | None
    cache: Path

    def __repr__(self) -> str:
        return f"HubEnvironment({self.endpoint!r}, offline={self.offline})"

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "HubEnvironment":
        """Reads the variables as the hub's tools do. Raises ModelProblem for an address that is none."""
        endpoint = (env.get("HF_ENDPOINT") or _HUB).rstrip("/")
        if not endpoint.startswith(("https://", "http://")):
            raise ModelProblem(
                "HF_ENDPOINT is not an address", f"it is {endpoint!r}", "set it like https://huggingface.co"
            )
        home = Path(env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
        cache = Path(env.get("HF_HUB_CACHE") or home / "hub").expanduser()
        offline = env.get("HF_HUB_OFFLINE", "").lower() in _TRUE
        return cls(endpoint, offline, _token(env, home.expanduser(), endpoint), cache)

    def snapshot(self, repository: str, commit: str) -> Path | None:
        """The folder of a commit in the cache, when it was ever downloaded."""
        folder = self._repository(repository) / "snapshots" / commit
        return folder if folder.is_dir() else None

    def branch(self, repository: str, name: str) -> str | None:
        """The commit that a branch was at when it was last downloaded."""
        file = self._repository(repository) / "refs" / name
        return file.read_text().strip() if file.is_file() else None

    def _repository(self, repository: str) -> Path:
        return self.cache / ("models--" + repository.replace("/", "--"))


def _token(env: Mapping[str, str], home: Path, endpoint: str) -> str | None:
    """HF_TOKEN, else the file in which `hf auth login` keeps one, which only the hub itself is ever shown."""
    if token := env.get("HF_TOKEN", "").strip():
        return token
    if endpoint != _HUB or env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _TRUE:
        return None
    file = Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser()
    try:
        return file.read_text().strip() or None
    except OSError:
        return None
