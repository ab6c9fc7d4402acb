"""Linux for x86-64, out of its own tables: nothing is needed on disk.

Names come from kallsyms, layouts of structures from BTF, callers from ORC: all of them are in the kernel's memory.
"""
