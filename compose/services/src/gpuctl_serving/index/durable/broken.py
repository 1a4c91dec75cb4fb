"""The one failure of the log that nothing but a start can mend."""


class LogBroken(Exception):
    """Nobody can tell what the log holds now: nothing may be acknowledged until a start has looked."""
