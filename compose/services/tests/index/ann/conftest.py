"""A copy of the package whose GPU is a CPU, for everything that a GPU's copy does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.index.ann.plan import FLAT, Plan
from tests.index.ann.rig import Rig
from tests.index.instances import ROOT


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that copy is."""
    root: Path = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "src/gpuctl_serving", root / "gpuctl_serving")
    stub = Path(__file__).parent / "device_stub.py"
    shutil.copy(stub, root / "gpuctl_serving/index/ann/replica/device.py")
    return root


@pytest.fixture(params=[FLAT, Plan("IVFFlat", 32), Plan("IVFPQ", 32, 8)], ids=lambda plan: plan.kind)
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    """One of each type, with its keeper at work."""
    made = Rig(tmp_path, package, request.param, monkeypatch)
    made.keeper.start()
    yield made
    made.keeper.stop()
    assert not list(tmp_path.glob("replica-*"))


@pytest.fixture
def flat(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """An exact one, whose keeper is still to be started."""
    made = Rig(tmp_path, package, FLAT, monkeypatch)
    yield made
    made.keeper.stop()
