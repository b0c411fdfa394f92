"""A Ray cluster of one machine that somebody else started: prints its address, and ends with its standard input.

python ray_cluster.py CPUS GPUS
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=int(sys.argv[1]),
        num_gpus=int(sys.argv[2]),
        include_dashboard=False,
        object_store_memory=80_000_000,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
