"""Folders that are bases by their names alone."""


def named_as_base(folder):
    """The folder, with the files that every base has; nothing is in them."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder
