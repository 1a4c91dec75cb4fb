"""The systemd user unit that starts a keeper at boot."""

import sys
from pathlib import Path


def unit(state: Path, code: Path) -> str:
    """The text of a unit for `~/.config/systemd/user/`, with the interpreter that runs now and this code.

    KillMode=process: when a keeper is killed, its instances must go on serving for the next one. Stopping
    the unit sends SIGINT, at which the keeper ends its instances itself.
    """
    words = (sys.executable, "-m", "gpuctl_serving.keeper", "--state", str(state), "--restore")
    # A dollar sign is special on a command line only.
    command = " ".join(_quoted(word).replace("$", "$$") for word in words)
    return f"""[Unit]
Description=gpuctl keeper of {_escaped(str(state))}
After=network.target

[Service]
Type=exec
Environment={_quoted(f"PYTHONPATH={code}")}
ExecStart={command}
KillMode=process
KillSignal=SIGINT
TimeoutStopSec=60
Restart=always
RestartSec=1
# Another keeper holds the environment already: it need not be started again.
RestartPreventExitStatus=75

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
