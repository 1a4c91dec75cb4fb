"""A copy of the package whose GPU is a CPU, for everything that a GPU's copy does."""

import shutil
from pathlib import Path

import pytest

from tests.index.instances import ROOT


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that copy is."""
    root: Path = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "src/gpuctl_serving", root / "gpuctl_serving")
    stub = Path(__file__).parent / "device_stub.py"
    shutil.copy(stub, root / "gpuctl_serving/index/ann/replica/device.py")
    return root
