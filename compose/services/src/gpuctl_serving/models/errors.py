"""What can be wrong with a model or with fetching one."""


class ModelProblem(Exception):
    """A model cannot be had or used: what, why, and the next command or step."""

    def __init__(self, message: str, because: str = "", next_step: str = "") -> None:
        super().__init__(f"{message}: {because}" if because else message)
        self.message = message
        self.because = because
        self.next_step = next_step
