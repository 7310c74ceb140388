"""Options that several commands of `pkd-student` have."""

from __future__ import annotations

import click

cache_option = click.option(
    "--cache", required=True, help="A finished cache: data/rte.zarr, or any fsspec URL."
)
