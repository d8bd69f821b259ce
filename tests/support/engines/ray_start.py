"""`ray start` for a node that only this machine reaches: `python -m tests.support.engines.ray_start start ...`.

Where it is given 127.0.0.1, Ray takes the machine's own address instead, and then listens on all of them.
"""

import sys

from ray._private import services
from ray.scripts.scripts import main


def same(host: str) -> str:
    return host


if __name__ == "__main__":
    services.resolve_ip_for_localhost = same
    sys.exit(main())
