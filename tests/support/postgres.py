"""A PostgreSQL server on loopback, for tests, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AVAILABLE = all(shutil.which(name) for name in ("initdb", "pg_ctl"))


@contextmanager
def local_postgres() -> Iterator[str]:
    """Yield the URL of an empty database; the server is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # not below pytest's folder: that is closed to the user who must run the server for root
    root = Path(tempfile.mkdtemp(prefix="pkd-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(root, user)
    data, log = str(root / "data"), str(root / "log")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=root, timeout=60)

    run("initdb", "-D", data, "-U", "team", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {root} -c fsync=off"
    run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        yield f"postgresql+pg8000://team@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(root)
