"""A tiny machine to debug: a few x86-64 instructions, memory, breakpoints and watchpoints, and its server loop.

It implements nearly every protocol of `gdbstub.target`, and so is an example of a whole target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdbstub import (
    ONLY_THREAD,
    Access,
    Action,
    BreakpointHit,
    Connected,
    Continue,
    Disconnected,
    Exited,
    Interrupted,
    Listener,
    MemoryFault,
    MemoryKind,
    MemoryRegion,
    Received,
    Signal,
    Signalled,
    State,
    Step,
    Stepped,
    StepRange,
    StopReason,
    Stub,
    TargetError,
    Terminated,
    ThreadDetails,
    ThreadId,
    WatchpointHit,
)

BASE = 0x1000
SIZE = 0x2000
DATA = 0x2000

RAX, RBX, RSP, RIP, EFLAGS = 0, 1, 7, 16, 17
GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16))]
SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"]
FPU_CONTROL = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]

# The registers that gdb's org.gnu.gdb.i386.core asks for, in its order: (name, bits, type).
REGISTERS = [
    *((name, 64, "data_ptr" if name in ("rbp", "rsp") else "int64") for name in GENERAL),
    ("rip", 64, "code_ptr"),
    ("eflags", 32, "int32"),
    *((name, 32, "int32") for name in SEGMENTS),
    *((f"st{number}", 80, "i387_ext") for number in range(8)),
    *((name, 32, "int") for name in FPU_CONTROL),
]
AVAILABLE = 24

# mov [rbx], al; inc rax; nop; jmp to the beginning.
LOOP = bytes.fromhex("8803 48ffc0 90 ebf8")
INC_RAX, NOP = BASE + 2, BASE + 5


class Cpu:
    """One CPU's registers, by gdb's numbers."""

    def __init__(self) -> None:
        self.values = [0] * AVAILABLE
        self.values[RBX] = DATA
        self.values[RSP] = BASE + SIZE
        self.values[RIP] = BASE
        self.values[EFLAGS] = 2


class Machine:
    """The machine, which is its own debugging target."""

    register_sizes = tuple(bits // 8 for _, bits, _ in REGISTERS)
    expedited_registers = (RIP, RSP)
    steps_ranges = True
    steps_take_interrupts = True
    physical_addresses = False

    def __init__(self, program: bytes = LOOP, cpus: int = 1) -> None:
        self.program = program
        self.detached = 0
        self.breakpoints: set[tuple[int, bool]] = set()
        self.watchpoints: set[tuple[int, int, Access]] = set()
        self._cpu_count = cpus
        self.restart()

    def restart(self) -> None:
        self.memory = bytearray(SIZE)
        self.memory[: len(self.program)] = self.program
        self.cpus = {ThreadId(1, number + 1): Cpu() for number in range(self._cpu_count)}
        self.actions: Mapping[ThreadId, Action] = {}
        self.reason: StopReason = Signalled(Signal.TRAP)
        self.interrupted = False
        self.delivered: list[int] = []

    def stop_reason(self) -> StopReason:
        return self.reason

    def threads(self) -> Sequence[ThreadId]:
        return list(self.cpus)

    def thread_details(self, thread: ThreadId) -> ThreadDetails:
        return ThreadDetails(f"CPU {thread.tid - 1}", "halted", thread.tid - 1)

    def read_register(self, thread: ThreadId, number: int) -> bytes | None:
        if number >= AVAILABLE:
            return None
        return self.cpus[thread].values[number].to_bytes(self.register_sizes[number], "little")

    def write_register(self, thread: ThreadId, number: int, data: bytes) -> None:
        if number >= AVAILABLE:
            raise TargetError(f"{REGISTERS[number][0]} is read-only")
        self.cpus[thread].values[number] = int.from_bytes(data, "little")

    def read_memory(self, thread: ThreadId, address: int, length: int) -> bytes:
        offset = self._offset(address)
        return bytes(self.memory[offset : offset + length])

    def write_memory(self, thread: ThreadId, address: int, data: bytes) -> None:
        offset = self._offset(address)
        if offset + len(data) > SIZE:
            raise MemoryFault(address)
        self.memory[offset : offset + len(data)] = data

    def exec_file(self) -> str:
        return "/program"

    def read_file(self, name: str) -> bytes | None:
        return self.program if name == "/program" else b"x" * 200_000 if name == "/big" else None

    def _offset(self, address: int) -> int:
        if self.physical_addresses:
            address += BASE
        if not BASE <= address < BASE + SIZE:
            raise MemoryFault(address)
        return address - BASE

    def insert_breakpoint(self, address: int, kind: int) -> None:
        self.breakpoints.add((address, False))

    def remove_breakpoint(self, address: int, kind: int) -> None:
        self.breakpoints.discard((address, False))

    def insert_hardware_breakpoint(self, address: int, kind: int) -> None:
        if sum(hardware for _, hardware in self.breakpoints) == 4:
            raise TargetError("all four debug registers are in use")
        self.breakpoints.add((address, True))

    def remove_hardware_breakpoint(self, address: int, kind: int) -> None:
        self.breakpoints.discard((address, True))

    def insert_watchpoint(self, address: int, length: int, access: Access) -> None:
        self.watchpoints.add((address, length, access))

    def remove_watchpoint(self, address: int, length: int, access: Access) -> None:
        self.watchpoints.discard((address, length, access))

    def target_description(self) -> Mapping[str, str]:
        core = "".join(f'<reg name="{name}" bitsize="{bits}" type="{kind}"/>' for name, bits, kind in REGISTERS)
        return {
            "target.xml": '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
            '<architecture>i386:x86-64</architecture><xi:include href="core.xml"/></target>',
            "core.xml": f'<?xml version="1.0"?><feature name="org.gnu.gdb.i386.core">{core}</feature>',
        }

    def memory_map(self) -> Sequence[MemoryRegion]:
        return [MemoryRegion(MemoryKind.RAM, BASE, SIZE)]

    def monitor(self, command: str) -> str:
        match command.split():
            case ["echo", *words]:
                return " ".join(words) + "\n"
            case ["repeat", count]:
                return "x" * int(count)
            case ["quiet"]:
                return ""
            case _:
                raise TargetError(f"there is no command {command!r}: try echo, repeat or quiet")

    def kill(self) -> None:
        self.reason = Terminated()

    def detach(self) -> None:
        self.detached += 1
        self.breakpoints.clear()
        self.watchpoints.clear()

    def resume(self, actions: Mapping[ThreadId, Action]) -> None:
        self.actions = actions
        self.delivered += [
            action.signal for action in actions.values() if isinstance(action, Continue | Step) and action.signal
        ]
        self._fresh = set(actions)

    def interrupt(self) -> None:
        self.interrupted = True

    def run(self, budget: int) -> StopReason | None:
        """Run every resumed CPU for at most `budget` instructions each; the reason if it has stopped."""
        for _ in range(budget):
            if self.interrupted:
                self.interrupted = False
                return self._stop(Interrupted(next(iter(self.actions))))
            for thread, action in self.actions.items():
                if (reason := self._run_one(thread, action)) is not None:
                    return self._stop(reason)
        return None

    def _stop(self, reason: StopReason) -> StopReason:
        self.reason = reason
        return reason

    def _run_one(self, thread: ThreadId, action: Action) -> StopReason | None:
        cpu = self.cpus[thread].values
        # A breakpoint under the first instruction after a resume has been reported already.
        if thread not in self._fresh:
            for hardware in (False, True):
                if (cpu[RIP], hardware) in self.breakpoints:
                    return BreakpointHit(thread, hardware)
        self._fresh.discard(thread)
        try:
            reason = self._execute(thread, cpu)
        except MemoryFault:
            reason = Signalled(Signal.SEGV, thread)
        if reason is not None:
            return reason
        match action:
            case Step():
                return Stepped(thread)
            case StepRange(start, end) if not start <= cpu[RIP] < end:
                return Stepped(thread)
            case _:
                return None

    def _execute(self, thread: ThreadId, cpu: list[int]) -> StopReason | None:
        code = list(self.read_memory(thread, cpu[RIP], 3))
        match code:
            case [0x90, *_]:
                cpu[RIP] += 1
            case [0xF4, *_]:
                return Exited(cpu[RAX] & 0xFF)
            case [0x48, 0xFF, 0xC0]:
                cpu[RAX] = (cpu[RAX] + 1) % (1 << 64)
                cpu[RIP] += 3
            case [0xEB, distance, *_]:
                cpu[RIP] += 2 + distance - (0x100 if distance >= 0x80 else 0)
            case [0x88, 0x03, *_]:
                self.write_memory(thread, cpu[RBX], bytes((cpu[RAX] & 0xFF,)))
                cpu[RIP] += 2
                return self._watched(thread, cpu[RBX], (Access.WRITE, Access.ANY))
            case [0x8A, 0x03, *_]:
                cpu[RAX] = cpu[RAX] & ~0xFF | self.read_memory(thread, cpu[RBX], 1)[0]
                cpu[RIP] += 2
                return self._watched(thread, cpu[RBX], (Access.READ, Access.ANY))
            case _:
                return Signalled(Signal.ILL, thread)
        return None

    def _watched(self, thread: ThreadId, address: int, kinds: tuple[Access, ...]) -> StopReason | None:
        for start, length, access in self.watchpoints:
            if access in kinds and start <= address < start + length:
                return WatchpointHit(address, access, thread)
        return None


class Bare:
    """The least that is a target: it can only say why it stands still."""

    def stop_reason(self) -> StopReason:
        return Signalled(Signal.TRAP, ONLY_THREAD)


def serve(listener: Listener, machine: Machine, log: list[str]) -> None:
    """Serve one debugger, from its connection to its end."""
    stub: Stub | None = None
    while stub is None or stub.state is not State.DISCONNECTED:
        running = stub is not None and stub.state is State.RUNNING
        for event in listener.poll(timeout=0.0 if running else 0.1):
            match event:
                case Connected():
                    log.append("connected")
                    stub = Stub(machine)
                case Received(data) if stub is not None:
                    listener.send(stub.feed(data))
                case Disconnected() if stub is not None:
                    stub.close()
        if stub is not None and stub.state is State.RUNNING:
            reason = machine.run(budget=200)
            if reason is not None:
                listener.send(stub.report_stop(reason))
    listener.disconnect()
    log.append("disconnected")
