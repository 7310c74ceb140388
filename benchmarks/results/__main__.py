"""Make the runs that are missing, then the page docs/results.md; without arguments the page alone.

    python -m benchmarks.results --glue DIR --init MODEL [--only rte]

Stop it whenever you like: a run that is recorded is never made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results.page import write_page
from benchmarks.results.plan import load_plan
from benchmarks.results.records import FOLDER, Records
from benchmarks.results.run import Runs, prepare_stages
from pipeline.models.identity import identify_init


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--glue", type=Path, help="folder of GLUE's RTE, MRPC, ... folders")
    parser.add_argument("--init", help="encoder of teachers and students: a hub id or a folder")
    parser.add_argument("--only", action="append", help="one experiment of the plan; repeatable")
    parser.add_argument("--records", type=Path, default=FOLDER, help="where they are kept")
    given = parser.parse_args()
    plan = load_plan()
    if (given.glue is None) != (given.init is None):
        parser.error("--glue and --init go together")
    try:
        if given.glue:
            for experiment in plan.experiments:
                if given.only is None or experiment.name in given.only:
                    records = Records(experiment.name, given.records)
                    records.require_encoder(identify_init(given.init).digest)
                    stages = prepare_stages(experiment, plan, given.glue, given.init)
                    Runs(plan, stages, records).all()
    finally:  # stopped half-way, the page still shows every run on record
        write_page(plan, given.records, given.records.with_suffix(".md"))


if __name__ == "__main__":
    main()
