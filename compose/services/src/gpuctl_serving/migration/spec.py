"""What a migration is asked to do: one JSON document on stdin, because it carries keys."""

from pathlib import Path

import msgspec

from gpuctl_serving.migration.problems import MigrationProblem


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A running service."""

    #: `http://host:port` or `unix:/path`.
    address: str
    key: str = ""
    #: Seconds that it is waited for when it is full or on its way up.
    patience: float = 60.0


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One migration."""

    index_path: str
    backup_dir: str
    index: Peer
    embedder: Peer | None = None
    documents: str | None = None
    namespace: str = "default"
    dimension: int | None = None
    #: `check` looks only, `migrate` does everything, `undo` puts the namespace of before back.
    action: str = "migrate"
    #: Vectors are made again from the texts by the environment's embedder.
    re_embed: bool = False
    accept_lossy: bool = False
    assume_same_model: bool = False
    #: Recall@10 that may be lost against the source.
    recall_loss: float = 0.01

    @property
    def source(self) -> Path:
        """The FAISS file."""
        return Path(self.index_path)


def parse_spec(raw: bytes) -> Spec:
    """Raises MigrationProblem when the document is not one."""
    try:
        return msgspec.json.decode(raw, type=Spec)
    except msgspec.DecodeError as wrong:
        raise MigrationProblem(
            "the migration cannot be read", str(wrong), "this is gpuctl's own mistake; please report it"
        ) from wrong
