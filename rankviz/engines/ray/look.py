"""Looks at a cluster once and prints what its slots have: `python -m rankviz.engines.ray.look TERMS`.

A child of whoever wants to know before anything is queued. TERMS is JSON: address, resources, labels.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rankviz import logs
from rankviz.engines.engine import Nodes
from rankviz.engines.ray.cluster import GPU, Cluster, explain
from rankviz.engines.ray.terms import Terms

NAMESPACE = "rankviz-look"


def main(argv: Sequence[str]) -> int:
    logs.keep_tokens_out()
    terms = Terms(namespace=NAMESPACE, jobs=Path(), **json.loads(argv[0]))
    try:
        cluster = Cluster(terms)
        nodes = Nodes(cluster.gpus, has_gpu=GPU in terms.resources, trouble=cluster.why_none)
    except Exception as error:  # whatever Ray raises where it cannot be reached
        nodes = Nodes(trouble=explain(error, terms.address))
    print(json.dumps(nodes._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
