"""A service without a keeper: a plain server, for containers and development."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

from tests.keeper.load import Load
from tests.keeper.world import SERVICES, eventually, free_port


def test_without_a_keeper_it_is_a_plain_server_that_drains_on_sigterm() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.keeper.tiny_service"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}",
            "GPUCTL_HOST": "127.0.0.1",
            "GPUCTL_PORT": str(port),
            "GPUCTL_LOG_LEVEL": "warning",
        },
    )
    try:
        eventually(lambda: connects(port), "it listens")
        with Load(port, clients=2, path="/?ms=200") as load:
            load.more(4)
        assert load.tally.failed == []
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        slow.request("GET", "/?ms=600")
        time.sleep(0.2)  # the request is on its way in; nothing outside can see that it arrived
        process.send_signal(signal.SIGTERM)
        assert slow.getresponse().getheader("connection") == "close"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)


def connects(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_setting_that_cannot_be_used_ends_it_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.keeper.tiny_service"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SERVICES / 'src'}:{SERVICES}",
            "GPUCTL_PORT": "http",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert "GPUCTL_PORT" in json.loads(line)["reason"]
