"""The caching allocator's rules, by hand (c10/cuda/CUDACachingAllocator.cpp)."""

from rankviz.worker.simulate.card import Allocator

MIB = 2**20


def test_sizes_are_rounded_to_512_bytes_and_small_ones_share_a_segment_of_2_mib():
    allocator = Allocator()

    allocator.allocate(1)
    allocator.allocate(513)

    assert 512 + 1024 == allocator.allocated
    assert 2 * MIB == allocator.reserved


def test_a_block_that_leaves_a_mebibyte_or_less_is_not_split():
    allocator = Allocator()
    first = allocator.allocate(8 * MIB)
    allocator.free(first)

    whole = allocator.allocate(19 * MIB)  # of the 20 MiB that the first one left
    beside = allocator.allocate(2 * MIB)

    assert (20 * MIB, 2 * MIB) == (whole.size, beside.size)
    assert 40 * MIB == allocator.reserved


def test_large_ones_have_segments_of_whole_2_mib_and_free_neighbours_become_one_block():
    allocator = Allocator()
    parts = [allocator.allocate(size) for size in (11 * MIB, 4 * MIB, 4 * MIB, 4 * MIB)]

    for part in parts[1:]:
        allocator.free(part)
    allocator.allocate(12 * MIB)

    assert (12 + 20) * MIB == allocator.reserved
    assert (12 + 12) * MIB == allocator.allocated  # 11 MiB have a segment of 12, of which too little is left
