"""The index service with lower sizes for its types, so that a test's namespace grows through all of them.

`python -m tests_long.index.low_thresholds IVF_FROM PQ_FROM`
"""

import sys

from gpuctl_serving.index.__main__ import run
from gpuctl_serving.index.ann import plan

if __name__ == "__main__":
    plan.IVF_FROM, plan.PQ_FROM = map(int, sys.argv[1:3])
    run()
