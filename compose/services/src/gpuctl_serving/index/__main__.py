"""`python -m gpuctl_serving.index`."""


def run() -> None:
    """Serves until asked to end."""
    from gpuctl_serving.index.service import create_service
    from gpuctl_serving.kit.serve import main

    main(create_service)


if __name__ == "__main__":
    run()
