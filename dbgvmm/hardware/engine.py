"""The engine: one Unicorn CPU in long mode with 57-bit addresses, and the one place where its exits arrive.

An *exit* is whatever makes the CPU leave translated code: an exception, a software interrupt (our callouts are
`int n`), an invalid opcode. It is handled inside Unicorn's hook: the context is saved, the handler changes it, and it
is restored, so that an exit costs about a microsecond and never leaves `emu_start`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, NoReturn

import unicorn.unicorn_py3.unicorn as binding
from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_BLOCK,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_MODE_64,
    UC_PROT_ALL,
    Uc,
    UcError,
    unicorn_const,
)
from unicorn import x86_const as uc_x86

from dbgvmm.hardware.context import ContextView, HFlags
from dbgvmm.hardware.layout import CODE_ALIAS_VA, MASK64, MONITOR_PA, PAGE_SIZE, TC_OFFSET, TC_VA
from dbgvmm.hardware.memory import FramePool, PhysicalMemory
from dbgvmm.hardware.meter import Meter

_INTR_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_BLOCK_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
_CALL_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
SYSCALL: Final = uc_x86.UC_X86_INS_SYSCALL
SYSENTER: Final = uc_x86.UC_X86_INS_SYSENTER
_INVALID_HOOK = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p)
_NO_END: Final = 0xFF20_0000_0000_0000
"""`emu_start` wants an address to stop at: one that no code can have."""
_IO_WRITE: Final = 1
_ARITHMETIC: Final = 0x8D5
_DF: Final = 1 << 10
_APART: Final = _ARITHMETIC | _DF
_TO_ALIAS: Final = CODE_ALIAS_VA + TC_OFFSET - TC_VA
CR0_RUNNING: Final = 0x8005_0033
"""PG, AM, WP, NE, ET, MP, PE: the real CR0 while a paged guest runs (TS and EM are put in by the CPU model)."""
INVALID_OPCODE: Final = 6

ExitHandler = Callable[[int], None]
MmioRead = Callable[[int, int], int]
MmioWrite = Callable[[int, int, int], None]


class EngineError(RuntimeError):
    """The engine ended a run in a way that no guest can cause: a bug of the monitor, with what is known about it."""


class _Closed:
    """In the place of Unicorn once the engine is closed: its functions would use memory that is gone."""

    def __getattr__(self, name: str) -> NoReturn:
        raise EngineError("this machine is closed: make another one")


class RegisterBatch:
    """Registers to be read in one call, each to its place in `values`: `size` bytes, zeros at first, whose other places are
    the owner's.

    registers: Unicorn's number and the offset of each. They are written one after the other, each as wide as Unicorn has it.
    """

    def __init__(self, registers: Sequence[tuple[int, int]], size: int) -> None:
        buffer = (ctypes.c_ubyte * size)()
        start = ctypes.addressof(buffer)
        self.numbers = (ctypes.c_int * len(registers))(*[number for number, _ in registers])
        self.places = (ctypes.c_void_p * len(registers))(*[start + place for _, place in registers])
        self.values = memoryview(buffer).cast("B")


class Engine:
    """The bare machine. One thread owns it."""

    def __init__(self, ram: PhysicalMemory, *, mmio_read: MmioRead, mmio_write: MmioWrite) -> None:
        self.ram = ram
        self.frames = FramePool()
        self._uc = uc = Uc(UC_ARCH_X86, UC_MODE_64)
        uc.ctl_set_cpu_model(uc_x86.UC_CPU_X86_ICELAKE_SERVER)
        uc.mem_map_ptr(0, ram.size, UC_PROT_ALL, ctypes.c_void_p(ram.block.address))
        block = self.frames.block
        uc.mem_map_ptr(MONITOR_PA, block.size, UC_PROT_ALL, ctypes.c_void_p(block.address))
        self._map_holes(mmio_read, mmio_write)
        uc.msr_write(0xC000_0080, uc.msr_read(0xC000_0080) | 1 << 11)
        uc.reg_write(uc_x86.UC_X86_REG_CR4, uc.reg_read(uc_x86.UC_X86_REG_CR4) | 1 << 5 | 1 << 12 | 1 << 9 | 1 << 10 | 1 << 16)
        uc.reg_write(uc_x86.UC_X86_REG_CR0, CR0_RUNNING)
        self.context = ContextView(uc)
        self._lib: Any = binding.uclib
        self._handle: Any = uc._uch
        self._error: BaseException | None = None
        self._handler: ExitHandler = self._unhandled
        self.stopping = False
        self.on_interruption: Callable[[], None] = lambda: None
        self.needs_flush = False
        self.exits = 0
        self.meter = Meter()
        self.after_exit: Callable[[float], None] | None = None
        """Called at the end of each exit with the moment at which it began (`perf_counter`), to note it in the meter; None: the
        engine does."""
        self._flags_value = ctypes.c_uint64(0)
        self._flags_pointer = ctypes.byref(self._flags_value)
        self._flush_code = self._control_code(unicorn_const.UC_CTL_TLB_FLUSH, _IO_WRITE, 0)
        self._remove_code = self._control_code(unicorn_const.UC_CTL_TB_REMOVE_CACHE, _IO_WRITE, 2)
        self._flush_all_code = self._control_code(unicorn_const.UC_CTL_TB_FLUSH, _IO_WRITE, 0)
        self._hooks: list[Any] = []
        self._add_hook(UC_HOOK_INTR, self._make_interrupt_hook())
        self._add_hook(UC_HOOK_INSN_INVALID, _INVALID_HOOK(self._on_invalid))

    # -- set-up

    def _map_holes(self, read: MmioRead, write: MmioWrite) -> None:
        """Everything below the monitor that is not RAM answers as MMIO, or a stray guest PTE would end the run."""

        start, end = self.ram.size, MONITOR_PA

        def on_read(uc: Uc, offset: int, size: int, data: Any) -> int:
            return read(start + offset, size)

        def on_write(uc: Uc, offset: int, size: int, value: int, data: Any) -> None:
            write(start + offset, size, value)

        self._uc.mmio_map(start, end - start, on_read, None, on_write, None)

    @staticmethod
    def _control_code(control: int, direction: int, arguments: int) -> int:
        return control | arguments << 26 | direction << 30

    def _add_hook(self, kind: int, function: Any, begin: int = 1, end: int = 0, instruction: int = 0) -> None:
        handle = ctypes.c_size_t()
        status = self._lib.uc_hook_add(
            self._handle, ctypes.byref(handle), kind, ctypes.cast(function, ctypes.c_void_p), None,
            ctypes.c_uint64(begin), ctypes.c_uint64(end), ctypes.c_int(instruction),
        )
        if status:
            raise UcError(status)
        self._hooks.append(function)

    # -- exits

    @property
    def handler(self) -> ExitHandler:
        """Called with the vector of each exit, the context saved; what it leaves in the context is what runs next."""
        return self._handler

    @handler.setter
    def handler(self, function: ExitHandler) -> None:
        self._handler = function

    def _unhandled(self, vector: int) -> None:
        raise EngineError(f"exit {vector} and nobody to handle it")

    def _make_interrupt_hook(self) -> Any:
        """The hook as a closure over locals: it runs hundreds of thousands of times a second."""
        context = self.context
        pointer, signed, old = context.pointer, context.s, context.old_exception_d
        save, restore, control = self._lib.uc_context_save, self._lib.uc_context_restore, self._lib.uc_ctl
        handle, flush_code = self._handle, self._flush_code
        meter, none = self.meter, self.meter.none

        def on_interrupt(_uc: int, vector: int, _data: int) -> None:
            start = perf_counter()
            try:
                save(handle, pointer)
                self.exits += 1
                self._handler(vector)
                signed[old] = -1  # or the next contributory fault would arrive as a double fault
                restore(handle, pointer)
                if self.needs_flush:
                    self.needs_flush = False
                    control(handle, flush_code)
            except BaseException as error:  # noqa: BLE001 - must not unwind through C; `run` raises it again
                self._error = error
                self._lib.uc_emu_stop(handle)
            finally:
                after = self.after_exit
                if after is None:
                    cell = meter.last = meter.cell
                    meter.cell = none
                    cell.count += 1
                    cell.seconds += perf_counter() - start
                else:
                    after(start)

        return _INTR_HOOK(on_interrupt)

    def _on_invalid(self, _uc: int, _data: int) -> bool:
        self._interrupt_entry(INVALID_OPCODE)
        return True

    def _interrupt_entry(self, vector: int) -> None:
        self._hooks[0](None, vector, None)

    # -- code that runs in place (--user=direct)

    def watch_direct_code(
        self, on_block: Callable[[int, int], None], on_call: Callable[[int], None], end: int
    ) -> None:
        """Hook what direct execution of addresses [0, end) needs.

        on_block(address, size): a block of straight-line code is about to run. on_call(instruction): SYSCALL or
        SYSENTER (Unicorn's UC_X86_INS numbers) ran as a no-op and ended its block.
        """
        handle = self._handle

        def guarded(function: Callable[[], None]) -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - must not unwind through C; `run` raises it again
                self._error = error
                self._lib.uc_emu_stop(handle)

        def block(_uc: int, address: int, size: int, _data: int) -> None:
            guarded(lambda: on_block(address, size))

        def call(instruction: int) -> Any:
            def hook(_uc: int, _data: int) -> None:
                guarded(lambda: on_call(instruction))

            return _CALL_HOOK(hook)

        self._add_hook(UC_HOOK_BLOCK, _BLOCK_HOOK(block), 0, end - 1)
        for number in (SYSCALL, SYSENTER):
            self._add_hook(UC_HOOK_INSN, call(number), 1, 0, number)

    def interrupt_run(self) -> None:
        """Make `emu_start` return at the next block, though nobody asked the machine to stop: see `run`."""
        self._lib.uc_emu_stop(self._handle)

    # -- running

    def run(self) -> None:
        """Restore the context and run until `stop` (or an error in the handler, which is raised here).

        After `interrupt_run`, `on_interruption` is called with the context saved, and the run goes on.
        """
        context = self.context
        self.stopping = False
        while True:
            context.s[context.old_exception_d] = -1
            self._fold_flags()
            self._lib.uc_context_restore(self._handle, context.pointer)
            if self.needs_flush:
                self.flush_tlb()
            status = self._lib.uc_emu_start(
                self._handle, ctypes.c_uint64(context.q[context.rip_q]), ctypes.c_uint64(_NO_END), ctypes.c_uint64(0),
                ctypes.c_size_t(0),
            )
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            self._lib.uc_context_save(self._handle, context.pointer)
            if status:
                rip = context.q[context.rip_q]
                raise EngineError(f"the engine stopped at {rip:#x} with error {status}: {UcError(status)}")
            if self.stopping:
                return
            start = perf_counter()
            self.exits += 1
            try:
                self.on_interruption()
            finally:
                (self.after_exit or self.meter.note)(start)
            if self.stopping:
                return

    def _fold_flags(self) -> None:
        """`emu_start` takes the arithmetic flags and DF out of EFLAGS, where a context saved in a hook has them apart.

        The handler that prepared the context has put the arithmetic flags into cc_src.
        """
        context = self.context
        flags = context.q[context.eflags_q] & ~_APART | context.q[context.cc_src_q] & _ARITHMETIC
        context.q[context.eflags_q] = flags | (_DF if context.s[context.df_d] == -1 else 0)

    def stop(self) -> None:
        """Make `run` return as soon as the current exit is handled. Safe from a signal handler."""
        self.stopping = True
        self._lib.uc_emu_stop(self._handle)

    def close(self) -> None:
        """Give everything back to the host. Whatever needs the engine afterwards raises EngineError."""
        if isinstance(self._lib, _Closed):
            return
        self._lib = _Closed()
        # The binding has no call for it: this is what it would call when the last reference is gone, which it notes.
        getattr(self._uc, "_Uc__finalizer", lambda: None)()
        self.ram.block.clear()
        self.frames.block.clear()

    # -- the state that is not in the context

    def read_flags(self) -> int:
        """RFLAGS as the engine has it, the lazily kept arithmetic flags computed (of the live CPU, not the context)."""
        self._lib.uc_reg_read(self._handle, uc_x86.UC_X86_REG_RFLAGS, self._flags_pointer)
        return self._flags_value.value

    def read_register(self, number: int, size: int) -> bytes:
        """`size` (16 at most) bytes of a register of the saved context, by Unicorn's number: see fpu.py."""
        buffer = (ctypes.c_ubyte * 16)()
        self._check_status(self._lib.uc_context_reg_read(self.context.pointer, number, buffer))
        return bytes(buffer)[:size]

    def read_registers(self, batch: RegisterBatch) -> None:
        """Read the registers of `batch`, of the saved context, to their places."""
        status = self._lib.uc_context_reg_read_batch(
            self.context.pointer, batch.numbers, batch.places, len(batch.numbers)
        )
        self._check_status(status)

    def write_register(self, number: int, data: bytes) -> None:
        """Set a register of the saved context, by Unicorn's number, to at most 16 bytes."""
        buffer = (ctypes.c_ubyte * 16)(*data)
        self._check_status(self._lib.uc_context_reg_write(self.context.pointer, number, buffer))

    @staticmethod
    def _check_status(status: int) -> None:
        if status:
            raise UcError(status)

    def flush_tlb(self) -> None:
        """Forget all cached translations of addresses."""
        self.needs_flush = False
        self._lib.uc_ctl(self._handle, self._flush_code)

    def forget_code(self, start: int, end: int) -> None:
        """Forget what the engine compiled from TC addresses [start, end): the bytes there were changed."""
        lower, upper = ctypes.c_uint64(start + _TO_ALIAS), ctypes.c_uint64(end + _TO_ALIAS)
        self._lib.uc_ctl(self._handle, self._remove_code, lower, upper)

    def forget_all_code(self) -> None:
        """Forget all that the engine compiled."""
        self._lib.uc_ctl(self._handle, self._flush_all_code)


__all__ = ["Engine", "EngineError", "HFlags", "PAGE_SIZE", "MASK64"]
