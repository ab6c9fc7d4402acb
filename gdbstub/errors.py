"""What can go wrong while a packet is served, as exceptions that become error replies.

A reply is either `E NN` (two hexadecimal digits, an errno by custom) or `E.text`; which of the two gdb can
take depends on the packet (GDB manual, "Standard Replies"). So an error here carries both.
"""

from __future__ import annotations

import errno


class RspError(Exception):
    """A packet failed: `number` goes out as `E NN`, `text` as `E.text`."""

    def __init__(self, text: str, number: int = errno.EPERM) -> None:
        super().__init__(text)
        self.text = text
        self.number = number & 0xFF

    def reply(self, *, as_text: bool) -> bytes:
        """The error reply, as text where the debugger understands that."""
        if as_text:
            # An error's text is not binary data, so what would have to be escaped cannot be sent.
            return b"E." + self.text.encode("ascii", "replace").translate(None, b"#$*}")
        return b"E%02x" % self.number


class MalformedPacket(RspError):
    """The packet's fields do not parse."""

    def __init__(self, text: str) -> None:
        super().__init__(text, errno.EINVAL)


class TargetError(RspError):
    """Raised by a target that cannot do what was asked; say in `text` why, or what to do instead."""


class MemoryFault(TargetError):
    """Raised by a target when not even the first byte of a memory access is accessible."""

    def __init__(self, address: int, text: str = "") -> None:
        super().__init__(text or f"cannot access memory at {address:#x}", errno.EFAULT)
        self.address = address
