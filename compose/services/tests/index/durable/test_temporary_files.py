"""Nothing of an index is written outside its directory: a kill would leave it there, readable to others."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
from pathlib import Path
from gpuctl_serving.index.maintenance import Maintenance
from gpuctl_serving.index.upkeep import compact
from tests.index import direct
from tests.index.durable import damage

quiet = lambda phase, done, of: None
core = direct.open_core(Path(sys.argv[1]))
damage.write(core, 30)
Maintenance(core).snapshot(quiet)
compact(core, quiet)
direct.close(core)
"""


def test_sqlite_makes_no_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # SQLite looks here first. A file that came and went has changed the directory's time.
    os.utime(temporary, (0, 0))
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SQLITE_TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "index")],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index" / "snapshots").is_dir()
    assert temporary.stat().st_mtime_ns == 0
