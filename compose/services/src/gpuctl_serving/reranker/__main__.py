"""`python -m gpuctl_serving.reranker`."""

from gpuctl_serving.kit.serve import main
from gpuctl_serving.reranker.service import create_service

if __name__ == "__main__":
    main(create_service)
