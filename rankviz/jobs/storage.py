"""A folder that the page and the machines of a cluster both see: a path, or any URI that fsspec reads (s3://…)."""

from pathlib import Path, PurePosixPath


class Storage:
    """One folder there. Whatever its file system raises goes on."""

    def __init__(self, address: str):
        from fsspec.core import url_to_fs

        # Listings that are cached would hide what a job wrote since.
        self._files, self._root = url_to_fs(address, use_listings_cache=False)

    def read(self, path: str, offset: int, most: int) -> bytes:
        """Return at most so many bytes of a file from an offset on; none where it is not there or has no more."""
        try:
            size = self._files.info(self._at(path))["size"]
            if offset >= size:
                return b""
            return self._files.cat_file(self._at(path), start=offset, end=min(size, offset + most))
        except FileNotFoundError:
            return b""

    def write(self, path: str, file: Path) -> None:
        """Copy a file of this machine there."""
        target = self._at(path)
        if "file" in self._files.protocol:  # elsewhere a folder is the beginning of a name
            self._files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
        self._files.put_file(str(file), target)

    def write_all(self, folder: Path) -> None:
        """Copy all files below a folder there."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.write(file.relative_to(folder).as_posix(), file)

    def read_all(self, folder: Path) -> None:
        """Copy all files to a folder of this machine."""
        for path in self._files.find(self._root):
            target = folder / path[len(self._root) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(path, str(target))

    def has_gone(self, path: str) -> bool:
        """Whether a file is certainly not there any more."""
        try:
            return not self._files.exists(self._at(path))
        except Exception:
            return False

    def remove(self) -> None:
        if self._files.exists(self._root):
            self._files.rm(self._root, recursive=True)

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"
