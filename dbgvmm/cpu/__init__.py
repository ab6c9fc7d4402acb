"""What the guest believes its CPU is: registers, segments, control registers, MSRs, CPUID, event delivery.

Pure Python: nothing here knows the engine that runs the code, nor how memory is mapped. Conventions of every function
that stands for an instruction:

* `cpu.rip` is the address of that instruction. A GuestFault leaves every register as it was, so the caller delivers
  it with `exceptions.deliver_fault(cpu, mem, fault)`.
* Functions that transfer control take `next_rip` where the instruction saves one, and set `cpu.rip` themselves. For
  all others the caller advances `cpu.rip`.
* Operand sizes are in bytes (2, 4, 8), already cut to what the mode allows by the decoder.
"""
