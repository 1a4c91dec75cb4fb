"""Why a migration stops: what, why and what to type next."""


class MigrationProblem(Exception):
    """A step cannot be done. Whatever served before goes on serving."""

    def __init__(self, message: str, because: str, next_step: str) -> None:
        super().__init__(f"{message}: {because}")
        self.message = message
        self.because = because
        self.next_step = next_step
