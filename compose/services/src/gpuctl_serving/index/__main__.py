"""`python -m gpuctl_serving.index`."""

import os


def run() -> None:
    """Serves until asked to end."""
    # FAISS's threads sleep while they wait: the cores are shared. Read when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from gpuctl_serving.index.service import create_service
    from gpuctl_serving.kit.serve import main

    main(create_service)


if __name__ == "__main__":
    run()
