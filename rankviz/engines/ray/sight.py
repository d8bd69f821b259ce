"""What the slots of a cluster have, seen before anything is queued there. The engine's driver is not started for that:
only whoever supervises the runs may have one."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from rankviz.engines.engine import Nodes
from rankviz.engines.ray.line import environment

LOOK_SECONDS = 15.0
KEPT_SECONDS = 60.0


class Sight:
    """Of one cluster.

    Args:
        address, resources, labels: As rankviz.engines.ray.terms has them.
        enter: Stands before the command line of who looks.
        look_seconds: A cluster that has not answered by then is silent.
    """

    def __init__(
        self,
        address: str,
        resources: Mapping[str, float],
        labels: Mapping[str, str],
        enter: Sequence[str] = (),
        look_seconds: float = LOOK_SECONDS,
    ):
        self._terms = {"address": address, "resources": dict(resources), "labels": dict(labels)}
        self._enter, self._look_seconds = enter, look_seconds
        self._lock = threading.Lock()
        self._known, self._until = Nodes(), 0.0

    def nodes(self) -> Nodes:
        """What is known. One looks; whoever comes meanwhile is given what was known before."""
        if self._lock.acquire(blocking=False):
            try:
                if time.monotonic() >= self._until:
                    self._known = self._look()
                    self._until = time.monotonic() + KEPT_SECONDS
            finally:
                self._lock.release()
        return self._known

    def _look(self) -> Nodes:
        command = [*self._enter, sys.executable, "-m", "rankviz.engines.ray.look", json.dumps(self._terms)]
        silent = Nodes(trouble=f"The Ray cluster at {self._terms['address']} does not answer.")
        try:
            look = subprocess.run(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._look_seconds,
            )
        except subprocess.TimeoutExpired:
            return silent
        lines = look.stdout.splitlines()
        return Nodes(**json.loads(lines[-1])) if lines and look.returncode == 0 else silent
