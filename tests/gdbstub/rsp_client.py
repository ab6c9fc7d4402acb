"""The debugger's end of a session, without any socket."""

from __future__ import annotations

from gdbstub import Stub, Target
from gdbstub.framing import Packet, PacketReader, frame


def payloads(data: bytes) -> list[bytes]:
    """The packets in what a stub sent, decoded."""
    events = PacketReader(1 << 20, expand_runs=True).feed(data)
    return [event.payload for event in events if isinstance(event, Packet)]


class Client:
    """Sends packets to a stub on `target` and takes its replies apart."""

    def __init__(self, target: Target, features: str = "") -> None:
        self.stub = Stub(target)
        if features:
            self.ask(f"qSupported:{features}")

    def ask_all(self, packet: str | bytes) -> list[bytes]:
        """Send one packet; all the packets that come back."""
        return payloads(self.stub.feed(frame(packet.encode() if isinstance(packet, str) else packet, runs=False)))

    def ask(self, packet: str | bytes) -> bytes:
        """Send one packet that must get just one reply."""
        (reply,) = self.ask_all(packet)
        return reply
