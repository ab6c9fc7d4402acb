"""The bare machine: one Unicorn engine used as an x86-64 CPU with a real MMU, and the memory around it.

This is the only package that imports unicorn. What it offers to the parts above:

* `Engine`: run, stop, flush the TLB, drop stale translated code, and one handler for every exit;
* `ContextView`: the saved CPU state, field by field (our VMCS);
* `PhysicalMemory`: guest RAM and the monitor's own memory;
* `layout`: where the monitor's regions live in physical and in virtual memory.
"""
