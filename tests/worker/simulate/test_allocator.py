"""The caching allocator's rules, by hand (c10/cuda/CUDACachingAllocator.cpp)."""

from rankviz.worker.simulate.card import Allocator

MIB = 2**20


def test_sizes_are_rounded_to_512_bytes_and_small_ones_share_a_segment_of_2_mib():
    allocator = Allocator()

    allocator.allocate(1)
    allocator.allocate(513)

    assert 512 + 1024 == allocator.allocated
    assert 2 * MIB == allocator.reserved


def test_large_ones_have_segments_of_whole_2_mib_and_free_neighbours_become_one_block():
    allocator = Allocator()
    parts = [allocator.allocate(size) for size in (11 * MIB, 4 * MIB, 4 * MIB, 4 * MIB)]

    for part in parts[1:]:
        allocator.free(part)
    allocator.allocate(12 * MIB)

    assert (12 + 20) * MIB == allocator.reserved
    assert (12 + 12) * MIB == allocator.allocated  # 11 MiB have a segment of 12, of which too little is left
