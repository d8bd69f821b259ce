"""What is known of all runs of a folder, kept in memory and made current by reading as little as can be.

`current` is all of it; `first_read`, `changes` and `rounds` say which runs are looked at, and `left_on_disk` and
`long_lists` what of a run is read only where somebody wants it, by `read_again`.
"""
