"""Where an environment keeps what (docs/architecture.md, Directories)."""

import os
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.kit.process import make_private_directory, run_directory


@dataclass(frozen=True)
class Paths:
    """The directories and files of one environment, from its state directory."""

    state: Path
    run: Path

    @classmethod
    def of(cls, state: Path) -> "Paths":
        """For an absolute state directory, as given: the CLI does not follow links in it either."""
        return cls(state, Path(run_directory(str(state), os.getuid())))

    def make(self) -> None:
        """Makes the directories, 0700, and refuses those of somebody else."""
        if self.run.parent != self.state:
            make_private_directory(self.run.parent)
        for directory in (self.state, self.run, self.keeper, self.logs, self.instances):
            make_private_directory(directory)

    @property
    def keeper(self) -> Path:
        """The keeper's own files."""
        return self.state / "keeper"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.state / "logs"

    @property
    def instances(self) -> Path:
        """Launch documents."""
        return self.state / "instances"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one keeper of this environment."""
        return self.keeper / "lock"

    @property
    def identity(self) -> Path:
        """Who the keeper is."""
        return self.keeper / "keeper.json"

    @property
    def desired(self) -> Path:
        """What should run."""
        return self.keeper / "desired.json"

    @property
    def socket(self) -> Path:
        """Where the keeper answers."""
        return self.run / "keeper.sock"

    def launch(self, instance: str) -> Path:
        """The launch document of an instance."""
        return self.instances / f"{instance}.json"
