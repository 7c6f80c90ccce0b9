"""Requests in flight, from the bytes of a journal as JOURNAL.md describes them: nothing of ours decodes them here."""

import struct


def in_flight(journal):
    """Trace, span and parent id of each slot that is in force, from the bytes."""
    data = journal.read_bytes()
    assert data[:8] == b"E137JRNL", "not a journal"
    header_bytes, slot_bytes, slots = struct.unpack_from("<III", data, 12)
    found = set()
    for at in range(header_bytes, header_bytes + slots * slot_bytes, slot_bytes):
        (control,) = struct.unpack_from("<Q", data, at)
        if control & 3 == 2:
            found.add((data[at + 24 : at + 40].hex(), data[at + 40 : at + 48].hex(), data[at + 48 : at + 56].hex()))
    return found
