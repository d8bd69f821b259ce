"""The cache of the Hub's client, filled without a Hub."""

import os
import time

COMMIT = "a" * 40


def put(folder, repo_id, size, age=0):
    """A repository with weights of so many bytes, used so many seconds ago; its folder."""
    repo = folder / f"models--{repo_id.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repo / part).mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    blob = repo / "blobs" / "weights"
    blob.write_bytes(b"x" * size)
    os.utime(blob, (time.time() - age,) * 2)
    (repo / "snapshots" / COMMIT / "model.safetensors").symlink_to(blob)
    return repo


def repositories(folder):
    """Those that are there, by their ids."""
    return sorted(path.name.removeprefix("models--").replace("--", "/") for path in folder.glob("models--*"))
