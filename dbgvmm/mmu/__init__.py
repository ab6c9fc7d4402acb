"""Memory virtualisation: guest page walks, shadow tables, traces, hidden and true faults, code windows.

The engine's own MMU walks *our* 5-level tables. They are a cache of the guest's tables: filled by hidden faults, kept in
step with the guest's tables by write-protecting (*tracing*) those, and dropped when memory is short.

Words: a *frame* is a guest-physical page number (gpa >> 12). A *slot* is the index of one shadow entry in
`FramePool.u64`; a *base* is the slot of a table's entry 0. A *hidden fault* is a miss of the shadow, a *true fault* one
that the guest's own tables cause, a *trace fault* a permitted write to a traced frame.

Public API (all on `ShadowMmu` unless noted):

    ShadowMmu(engine, cpu, *, validate="eager", user_execute=False, empty_slot=0)
    root: int                                     physical address for the hardware's CR3
    mode_changed() -> None                        CR0, CR4, EFER (or CR3) of `cpu` changed in a way that paging sees
    load_cr3(value, keep=False) -> None           the guest wrote CR3; afterwards load `root` into the hardware
    invlpg(va), invpcid(kind, pcid, va), flush_all(include_global) -> None
    on_page_fault(va, error_code, user) -> int    HIDDEN, TRUE (`fault_error`) or TRACE (`trace_gpa`)
    resolve_code(va, user) -> (frame, is_global)  the walk of a fetch; raises GuestFault #PF
    open_window(tc_page, pages, user, is_global) -> bool     pages: [(va, frame)] or two of them
    close_windows_of(tc_page), close_all() -> None
    guest_write(gpa, data), guest_write_int(gpa, value, size) -> None
    open_page(gpa), close_page(gpa) -> None       let one stepped instruction write to a traced frame
    protect_code(frame), unprotect_code(frame) -> None; on_code_write: Callable[[gpa, size], None]
    release_table(frame) -> None                  the frame is no page table any more
    walk_report(va) -> WalkReport                 every level's entry, no side effects
    stats() -> dict[str, int]
    monitor: MonitorSpace                         .map_lookup_page(va) -> MonitorPhysical, .clear_lookup()
    GuestMemory(mmu)                              linear.py: read_u8 .. write_u64, read, write, peek, poke, translate
"""
