"""`python -m gpuctl_serving.container`: what an image runs, and what is asked of it by `docker exec`."""

import os
import sys
from collections.abc import Sequence

from gpuctl_serving.container.asking import ask, ready, show_traffic, turn
from gpuctl_serving.container.place import Place, PlaceError

USAGE = """Usage: gpuctl-service COMMAND

  embedder | reranker | index   serve, as GPUCTL_* variables say
  ready                         end with 0 when it would answer a request now
  traffic [open | paused]       what a proxy is told; set it, for this and every later start
  ask METHOD PATH               ask any route, private ones included; a body comes from stdin for POST
"""
_PLAIN = {"ready": ready, "traffic": show_traffic}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit status: 2 for one that does not exist."""
    try:
        match list(arguments):
            case ["embedder" | "reranker" | "index" as service]:
                return _serve(service)
            case ["ready" | "traffic" as command]:
                return _PLAIN[command](Place.read(os.environ))
            case ["traffic", "open"]:
                return turn(Place.read(os.environ), "open")
            case ["traffic", "paused"]:
                return turn(Place.read(os.environ), "paused")
            case ["ask", method, path]:
                body = sys.stdin.buffer.read() if method.upper() == "POST" else b""
                return ask(Place.read(os.environ), method.upper(), path, body)
            case _:
                sys.stderr.write(USAGE)
                return 2
    except (OSError, PlaceError) as failure:
        sys.stderr.write(f"{failure}\n")
        return 1


def _serve(service: str) -> int:
    # Only what serves pays for the imports of a service.
    import importlib

    from gpuctl_serving.container.behind_proxy import serve

    create = importlib.import_module(f"gpuctl_serving.{service}.service").create_service
    serve(service, create, os.environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
