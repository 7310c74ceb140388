"""For launchers: `torchrun --nproc-per-node 2 -m stages.student fit --cache data/rte.zarr`."""

from __future__ import annotations

from stages.student import cli

if __name__ == "__main__":
    cli(prog_name="pkd-student")
