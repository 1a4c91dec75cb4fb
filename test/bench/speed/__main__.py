"""Measures what the services cost and how fast they are; prints ratios, round by round, in one JSON document.

    npm run test:long -- speed                                   all of it
    PYTHONPATH=compose/services/src:test/bench python -m speed cost --model <directory in the model store>

Run it with the services' own Python on a machine that does nothing else: a ratio compares within its round, but
a neighbour that comes and goes within one still shows. SPEED_LOG names a file for what the servers say.
"""

import argparse
import tempfile
from pathlib import Path

from . import cost, index, int8, memory, mixed, peers, rerank

NAMES = ("cost", "peers", "mixed", "int8", "rerank", "index", "memory")


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        "speed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--model", type=Path, help="MiniLM's directory in the model store (not for index)")
    parser.add_argument("--int8", type=Path, help="directory of the INT8 model, for int8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--requests", type=int, default=16, help="requests of 32 texts a round, where there are such"
    )
    parser.add_argument("--seconds", type=float, default=300, help="of load, for memory")
    parser.add_argument("--vectors", type=int, default=100_000, help="for index")
    given = parser.parse_args()
    if given.model is None and given.name != "index":
        parser.error("--model is needed")
    with tempfile.TemporaryDirectory() as scratch:
        match given.name:
            case "cost":
                cost.measure(given.model, given.rounds, given.requests)
            case "peers":
                peers.measure(given.model, given.rounds, given.requests)
            case "mixed":
                mixed.measure(given.model, given.rounds, given.requests)
            case "int8":
                if given.int8 is None:
                    parser.error("--int8 is needed")
                int8.measure(given.model, given.int8, given.rounds, given.requests)
            case "rerank":
                rerank.measure(given.model, given.rounds, max(3, given.requests // 4), Path(scratch))
            case "index":
                index.measure(given.vectors, given.rounds, Path(scratch))
            case "memory":
                memory.measure(given.model, given.seconds)


if __name__ == "__main__":
    main()
