"""How a process ended, in words."""

import signal
import subprocess


def ending_of(process: "subprocess.Popen[bytes]") -> str:
    """A sentence about a worker that is gone."""
    code = process.returncode
    if code is None:
        return "the engine's process is gone"
    if code >= 0:
        return f"the engine's process ended with status {code}; its last log lines say why"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; the kernel does that when memory runs out" if name == "SIGKILL" else ""
    return f"the engine's process was ended by {name}{hint}"
