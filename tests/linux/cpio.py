"""Writes cpio archives in the "newc" format, the one that Linux unpacks as an initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst. Everything that could differ between two runs
(times, inode numbers, owners) is fixed, so the same content always gives the same bytes.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class CpioArchive:
    """An archive under construction; `finish()` gives its bytes."""

    _data: bytearray = field(default_factory=bytearray)
    _next_inode: int = 1

    def directory(self, path: str, permissions: int = 0o755) -> None:
        """Adds a directory. Parents have to be added before what they contain."""
        self._entry(path, stat.S_IFDIR | permissions, b"", links=2)

    def file(self, path: str, content: bytes, permissions: int = 0o644) -> None:
        """Adds a regular file."""
        self._entry(path, stat.S_IFREG | permissions, content)

    def symlink(self, path: str, target: str) -> None:
        """Adds a symbolic link to `target`."""
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, permissions: int = 0o600) -> None:
        """Adds a character device node."""
        self._entry(path, stat.S_IFCHR | permissions, b"", device=(major, minor))

    def finish(self) -> bytes:
        """The archive with its trailer, padded to the 512 bytes that cpio itself pads to."""
        self._entry("TRAILER!!!", 0, b"")
        self._data += bytes(-len(self._data) % 512)
        return bytes(self._data)

    def _entry(
        self, path: str, mode: int, content: bytes, links: int = 1, device: tuple[int, int] = (0, 0)
    ) -> None:
        name = path.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._next_inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name), 0)
        self._next_inode += 1
        self._data += b"070701" + b"".join(b"%08X" % value for value in fields) + name
        self._data += bytes(-len(self._data) % 4) + content
        self._data += bytes(-len(self._data) % 4)
