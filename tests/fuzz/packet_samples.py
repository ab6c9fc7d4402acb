"""A good example of each packet, by the name of its row: what bad packets are made from, and what a fuzzer begins with."""

from __future__ import annotations

ADDRESS = b"106000"
"""Where `kmain` of the guest `hello` is; the example machine of tests/gdbstub has its memory elsewhere."""

SAMPLES: dict[str, tuple[bytes, ...]] = {
    "?": (b"?",),
    "!": (b"!",),
    "R": (b"R00",),
    "D": (b"D", b"D;1"),
    "k": (b"k",),
    "vKill": (b"vKill;1",),
    "qSupported": (b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+;xmlRegisters=i386;vContSupported+",),
    "QStartNoAckMode": (b"QStartNoAckMode",),
    "qAttached": (b"qAttached", b"qAttached:1"),
    "g": (b"g",),
    "G": (b"G" + b"0" * 64,),
    "p": (b"p10", b"p3d"),
    "P": (b"P1=7856341200000000", b"P3d=0020100000000000"),
    "m": (b"m" + ADDRESS + b",40",),
    "M": (b"M" + ADDRESS + b",4:90909090",),
    "x": (b"x" + ADDRESS + b",40",),
    "X": (b"X" + ADDRESS + b",2:ab", b"X0,0:"),
    "H": (b"Hg1", b"Hcp1.-1", b"Hg0"),
    "T": (b"T1", b"Tp1.1"),
    "qC": (b"qC",),
    "qfThreadInfo": (b"qfThreadInfo",),
    "qsThreadInfo": (b"qsThreadInfo",),
    "qThreadExtraInfo": (b"qThreadExtraInfo,1",),
    "vCont?": (b"vCont?",),
    "vCont": (b"vCont;c", b"vCont;s:p1.1;c", b"vCont;r106000,106008:1", b"vCont;S05:1;C05"),
    "c": (b"c",),
    "C": (b"C05",),
    "s": (b"s",),
    "S": (b"S05",),
    "vCtrlC": (b"vCtrlC",),
    "Z0": (b"Z0," + ADDRESS + b",1", b"Z0," + ADDRESS + b",1;X3,220127;cmds:0,X3,220127"),
    "z0": (b"z0," + ADDRESS + b",1",),
    "Z1": (b"Z1," + ADDRESS + b",1;X6,26000a220f27",),
    "z1": (b"z1," + ADDRESS + b",1",),
    "Z2": (b"Z2,10bff0,8",),
    "z2": (b"z2,10bff0,8",),
    "Z3": (b"Z3,10bff0,3",),
    "z3": (b"z3,10bff0,3",),
    "Z4": (b"Z4,10bff0,1",),
    "z4": (b"z4,10bff0,1",),
    "qXfer:features:read": (b"qXfer:features:read:target.xml:0,ffb",),
    "qXfer:memory-map:read": (b"qXfer:memory-map:read::0,ffb",),
    "qXfer:threads:read": (b"qXfer:threads:read::0,ffb",),
    "qXfer:exec-file:read": (b"qXfer:exec-file:read:1:0,ffb",),
    "vFile:setfs": (b"vFile:setfs:0",),
    "vFile:open": (b"vFile:open:" + b"/dbgvmm/cmdline".hex().encode() + b",0,0",),
    "vFile:pread": (b"vFile:pread:3,40,0",),
    "vFile:close": (b"vFile:close:3",),
    "vFile:fstat": (b"vFile:fstat:3",),
    "vFile:stat": (b"vFile:stat:" + b"/dbgvmm/serial.log".hex().encode(),),
    "vFile:lstat": (b"vFile:lstat:2f",),
    "vFile:readlink": (b"vFile:readlink:2f",),
    "vFile:pwrite": (b"vFile:pwrite:3,0,abc",),
    "vFile:unlink": (b"vFile:unlink:2f",),
    "qSearch": (b"qSearch:memory:" + ADDRESS + b";1000;Hello",),
    "qCRC": (b"qCRC:" + ADDRESS + b",100",),
    "qqemu.sstepbits": (b"qqemu.sstepbits",),
    "Qqemu.sstepbits": (b"Qqemu.sstepbits",),
    "qqemu.sstep": (b"qqemu.sstep",),
    "Qqemu.sstep": (b"Qqemu.sstep=0x7",),
    "qqemu.PhyMemMode": (b"qqemu.PhyMemMode",),
    "Qqemu.PhyMemMode": (b"Qqemu.PhyMemMode:1", b"Qqemu.PhyMemMode:0"),
    "QThreadSuffixSupported": (b"QThreadSuffixSupported",),
    "QListThreadsInStopReply": (b"QListThreadsInStopReply",),
    "QEnableErrorStrings": (b"QEnableErrorStrings",),
    "qHostInfo": (b"qHostInfo",),
    "qProcessInfo": (b"qProcessInfo",),
    "qMemoryRegionInfo": (b"qMemoryRegionInfo:" + ADDRESS,),
    "qRegisterInfo": (b"qRegisterInfo10", b"qRegisterInfo5d"),
    "jThreadsInfo": (b"jThreadsInfo",),
    "qRcmd": tuple(
        b"qRcmd," + line.encode().hex().encode()
        for line in (
            "info registers", "info mem", "x/4xg rsp", "xp/2i 0x100000", "translate rip", "print/x *(rsp-8)+0x10",
            "break --phys 0x106010", "break 0x106010 --cr3 $cr3", "watch rsp-8 8 access", "catch port 0x3f8 write",
            "catch exception #PF", "info breakpoints", "delete", "set rax -1", "poke/w rsp 0x1234", "disassemble rip",
            "disassemble tc rip", "help info", "info idt", "info msrs", "peek rip 32", "info shadow rip",
        )
    ),
}  # fmt: skip
"""Rows that have none here fail a test, so a new packet brings its example."""

ENDS_OR_RUNS = frozenset(("R", "D", "k", "vKill", "vCont", "c", "C", "s", "S"))
"""Packets after which the machine runs, or is another: their good examples are no bad input."""
CHANGES = frozenset(("G", "P", "M", "X", "qRcmd"))
"""Packets whose good examples change the machine because that is what they are for."""


def all_samples() -> list[bytes]:
    """Every example."""
    return [sample for samples in SAMPLES.values() for sample in samples]
