"""Parses one DAG file as the DAG processor does, and prints, as JSON, the CPU seconds of the process."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Parse the file named on the command line."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    if bag.import_errors or len(bag.dags) != 1:
        raise SystemExit(f"{sys.argv[1]} isn't a file with one DAG: {bag.import_errors}")
    print(json.dumps({"cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
