"""The cluster that is there already: connecting to it, and its nodes. None is ever started here."""

import math
import re
import time
from collections.abc import Container, Mapping, Sequence, Set
from typing import Any

import ray

from rankviz.engines.ray.alone import LeftAlone
from rankviz.engines.ray.terms import Terms
from rankviz.errors import redacted

SILENT_SECONDS = 20.0
GPU, ACCELERATOR = "GPU", "accelerator_type:"
"""Names of resources: a node with GPUs has one of the latter kind too, with the model."""
INTERNAL = ("node:", ACCELERATOR, "object_store_memory", "memory")
ADDRESS = re.compile(r"\bip[=:] ?([\da-fA-F.:]+\b)")


class Cluster:
    """Connected to."""

    def __init__(self, terms: Terms):
        """Any error of Ray's where it cannot be reached."""
        ray.init(address=terms.address, namespace=terms.namespace, log_to_driver=False)
        self._terms = terms
        self.alone = LeftAlone(terms.alone_seconds)
        self._nodes: Sequence[Mapping[str, Any]] = ()
        self._seen_at = time.monotonic()
        self.refresh()

    def refresh(self) -> None:
        """Ask the head for its nodes; it blocks where the head does not answer."""
        self._nodes = ray.nodes()
        self._seen_at = time.monotonic()

    @property
    def silence(self) -> str:
        """That the head does not answer, as a sentence; empty where it does."""
        seconds = time.monotonic() - self._seen_at
        return f"The head of Ray at {self._terms.address} does not answer." if seconds > SILENT_SECONDS else ""

    @property
    def slots(self) -> int:
        """Of nodes that are not left alone."""
        return self._slots_without(self.alone.now())

    def avoided(self, *, was_lost: bool) -> Set[str]:
        """Ids of nodes that get no job now. was_lost: one with a run that was lost does not go to a node either that
        failed lately, as long as another has slots: it would be lost with that again."""
        lately = self.alone.lately()
        return lately if was_lost and self._slots_without(lately) else self.alone.now().keys()

    def _slots_without(self, node_ids: Container[str]) -> int:
        nodes = [node for node in self._nodes if node["NodeID"] not in node_ids]
        return slots(nodes, self._terms.resources, self._terms.labels)

    @property
    def gpus(self) -> Sequence[str]:
        """Models of the GPUs of slots."""
        return gpus(self._nodes, self._terms.resources, self._terms.labels)

    @property
    def why_none(self) -> str:
        """Why there is no slot, as a sentence."""
        if self.slots:
            return ""
        return self.why_alone or why_none(self._nodes, self._terms.resources, self._terms.labels)

    @property
    def why_alone(self) -> str:
        """Which nodes are left alone, as sentences; empty where none is."""
        alone = [(self.name_of(node_id), failure) for node_id, failure in self.alone.now().items()]
        return " ".join(f"{name} gets no job for {failure.seconds:g} s. {failure.why}" for name, failure in alone[:4])

    def name_of(self, node_id: str) -> str:
        """Of a node, for people."""
        for node in self._nodes:
            if node["NodeID"] == node_id:
                name = node.get("NodeName") or ""
                return name if name and name != node["NodeManagerAddress"] else node["NodeManagerHostname"]
        return node_id[:8]

    def at(self, text: str) -> Sequence[str]:
        """Ids of the living nodes whose address an error of Ray's names."""
        addresses = set(ADDRESS.findall(text))
        return [node["NodeID"] for node in self._nodes if node["Alive"] and node["NodeManagerAddress"] in addresses]


def slots(nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, float], labels: Mapping[str, str]) -> int:
    """How many slots with these resources the nodes with these labels have. nodes: as ray.nodes() lists them."""
    return sum(_slots_of(node, resources) for node in nodes if node["Alive"] and _has(node, labels))


def gpus(
    nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, float], labels: Mapping[str, str]
) -> Sequence[str]:
    """Models of the GPUs that slots have, as Ray calls them; none where a slot takes no GPU."""
    if GPU not in resources:
        return ()
    with_slots = [node for node in nodes if slots([node], resources, labels)]
    names = {name for node in with_slots for name in node["Resources"] if name.startswith(ACCELERATOR)}
    return sorted(name.removeprefix(ACCELERATOR) for name in names)


def why_none(nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """What no node has, and what the nodes have instead. Ray itself would wait for such a node for ever."""
    needs = [f"{name} {amount:g}" for name, amount in resources.items()]
    needs += [f"the label {name}={value}" for name, value in labels.items()]
    there = [_described(node, resources) for node in nodes if node["Alive"]]
    has = "; ".join(there[:8]) + ("; …" if len(there) > 8 else "")
    return f"No node of the Ray cluster has {' and '.join(needs)}. Its nodes have: {has or 'nothing'}."


def explain(error: Exception, address: str) -> str:
    """Why the cluster cannot be reached, in a sentence."""
    text = redacted(" ".join(str(error).split()))
    if "token" in text.lower() or "Unauthenticated" in text:
        why = "It wants its token: set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN as on its nodes."
    elif "Version mismatch" in text:
        why = f"Ray and Python must have the same versions there and here. {text}"
    else:
        why = f"Does its head run, is the token here the same, and is this machine one of its nodes? {text}"
    return f"The Ray cluster at {address} cannot be reached. {why}"[:900]


def _slots_of(node: Mapping[str, Any], resources: Mapping[str, float]) -> int:
    return min(math.floor(node["Resources"].get(name, 0.0) / amount) for name, amount in resources.items())


def _has(node: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return labels.items() <= (node.get("Labels") or {}).items()


def _described(node: Mapping[str, Any], asked: Container[str]) -> str:
    """asked: resources that are named in any case."""
    named = [name for name in node["Resources"] if name in asked or not name.startswith(INTERNAL)]
    parts = [f"{name} {node['Resources'][name]:g}" for name in named]
    labels = node.get("Labels") or {}
    parts += [f"{name}={value}" for name, value in labels.items() if not name.startswith("ray.io/")]
    return ", ".join(sorted(parts)) or "no resources"
