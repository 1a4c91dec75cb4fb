"""The systemd user unit that starts a keeper at boot."""

import sys
from pathlib import Path


def unit(state: Path, python_path: str | None) -> str:
    """The text of a unit for `~/.config/systemd/user/`, with the interpreter and code that run now.

    KillMode=process: when a keeper is killed, its instances must go on serving for the next one. Stopping
    the unit sends SIGINT, at which the keeper ends its instances itself.
    """
    environment = f"Environment={_quoted(f'PYTHONPATH={python_path}')}\n" if python_path else ""
    command = " ".join(
        _quoted(part) for part in (sys.executable, "-m", "gpuctl_serving.keeper", "--state", str(state))
    )
    return f"""[Unit]
Description=gpuctl keeper of {_escaped(str(state))}
After=network.target

[Service]
Type=exec
{environment}ExecStart={command} --restore
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
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'
