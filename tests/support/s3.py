"""An S3 on this machine: moto's server in a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import pytest

HOST = "127.0.0.1"
KEY, SECRET, REGION = "test-key", "test-secret", "us-east-1"

# A process, not a thread: what moto and boto warn of must not become errors of ours, and what one
# test stored must be gone for the next. It ends when its input does, so even a killed test run
# leaves no server behind.
SERVER = f"""
import sys
import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="{HOST}", port=0, verbose=False)
server.start()
url = f"http://{HOST}:{{server.get_host_and_port()[1]}}"
boto3.client("s3", endpoint_url=url).create_bucket(Bucket=sys.argv[1])
print(url, flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True)
class LocalS3:
    """A running server with one empty bucket."""

    endpoint: str
    bucket: str

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec needs to reach it without any environment variable."""
        return {"endpoint_url": self.endpoint, "key": KEY, "secret": SECRET}

    def url(self, path: str) -> str:
        """The `s3://` address of a path in the bucket."""
        return f"s3://{self.bucket}/{path}"


@contextmanager
def local_s3(monkeypatch: pytest.MonkeyPatch, bucket: str = "team-bucket") -> Iterator[LocalS3]:
    """Start a server; `fsspec.open("s3://BUCKET/KEY")` reaches it while the context is open.

    The AWS_* variables are set through `monkeypatch`, so that child processes have them too.
    """
    with TemporaryDirectory() as empty:
        _set_credentials(monkeypatch, Path(empty))
        with _server(bucket) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            _forget_file_systems()
            try:
                yield LocalS3(endpoint, bucket)
            finally:
                _forget_file_systems()
                monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@contextmanager
def _server(bucket: str) -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, bucket]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            assert endpoint, "moto's server did not start"
            yield endpoint
        finally:
            process.kill()


def _set_credentials(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    """Ours, and nothing of whoever runs the tests: no profile, no instance role, no real AWS."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_REGION", REGION)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        (empty / name).touch()  # DVC refuses a path that is no file, such as /dev/null
        monkeypatch.setenv(name, str(empty / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", HOST)
    monkeypatch.setenv("no_proxy", HOST)


def _forget_file_systems() -> None:
    """fsspec hands out an s3 file system again for equal options: it would ask the last server."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
