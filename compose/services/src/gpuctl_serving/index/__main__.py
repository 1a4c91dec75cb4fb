"""`python -m gpuctl_serving.index`."""

from gpuctl_serving.index.service import create_service
from gpuctl_serving.kit.serve import main

if __name__ == "__main__":
    main(create_service)
