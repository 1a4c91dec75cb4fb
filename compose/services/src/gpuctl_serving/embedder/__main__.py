"""`python -m gpuctl_serving.embedder`."""

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.kit.serve import main

if __name__ == "__main__":
    main(create_service)
