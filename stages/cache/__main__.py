"""For launchers: `torchrun --nproc-per-node 2 -m stages.cache build --task rte`."""

from __future__ import annotations

from stages.cache import cli

if __name__ == "__main__":
    cli(prog_name="pkd-cache")
