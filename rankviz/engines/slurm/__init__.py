"""Slurm: one batch job a RankViz job, on the nodes of a cluster that share a disk with the page.

`engine` keeps each job as a folder on that disk, in which its worker writes; `commands` runs sbatch, squeue, sacct and
scancel, which `sending`, `watch` and `calls` do in threads, since each may hang; `states` says what their words mean.
Every file has one machine that writes it: the page's before the job is sent, the node's afterwards. So nothing rests on
locks, or on appending from two machines, which network disks do not promise.
"""
