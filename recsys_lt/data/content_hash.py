"""Hashes of files' content, remembered while a file stays as it was."""

import hashlib
import json
from pathlib import Path

from recsys_lt.data.progress import shown
from recsys_lt.system.atomic import replacing


class ContentHashes:
    """SHA-256 of files, kept in a folder so that an unchanged file is read once only.

    Parameters
    ----------
    folder
        Where they are remembered: one small file for each path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, path: Path) -> str:
        """The SHA-256 of the file's content, in hexadecimal."""
        path = path.resolve()
        stat = path.stat()
        # A file may be rewritten at the same size within one tick of mtime; ctime and inode tell too.
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        memory = self._folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        try:
            remembered = json.loads(memory.read_text(encoding="utf-8"))
            if remembered["seen"] == seen:
                return str(remembered["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never hashed, or a damaged note: hash
        with path.open("rb") as file, shown(f"hashing {path.name}"):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as temporary:
            temporary.write_text(json.dumps({"seen": seen, "sha256": digest}), encoding="utf-8")
        return digest
