"""Settings of the reranker."""

from dataclasses import dataclass, field
from pathlib import Path

from gpuctl_serving.caches.settings import CachedSettings


@dataclass(frozen=True, kw_only=True)
class RerankSettings(CachedSettings):
    """What the reranker reads beyond what every service with a model does."""

    #: A smaller model that answers while the main one cannot run on its device.
    fallback_model_dir: Path | None = None
    #: Candidates that a model ranks while a fallback answers; 0 is what its measured speed allows.
    fallback_max_candidates: int = field(default=0, metadata={"min": 0})

    @property
    def smaller_model(self) -> Path | None:
        """See ModelSettings."""
        return self.fallback_model_dir
