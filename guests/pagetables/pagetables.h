/* Each file edits page tables in one family of ways; each keeps to a PML4 slot of its own. */
#pragma once

enum {
    SLOT_MAPPING = 40,
    SLOT_ACCESSED = 50,
    SLOT_SHARING = 60,
    SLOT_RECURSIVE = 100,
    SLOT_LARGE = 70,
    SLOT_SPACES = 80,
    SLOT_RIGHTS = 90,
    SLOT_WRITES = 110,
    SLOT_REUSE = 120,
};

void test_mapping(void);
void test_accessed_dirty(void);
void test_sharing(void);
void test_large_pages(void);
void test_address_spaces(void);
void test_pcid(void);
void test_rights(void);
void test_entry_writes(void);
void test_reuse(void);
