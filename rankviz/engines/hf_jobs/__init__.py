"""Hugging Face Jobs: a job rents a machine for one base with all its runs, on the account of whoever started them.

logins    tokens, in memory alone
hub       the calls: jobs, the repository that carries what a job needs, the bucket that brings back what it made
code      this package as one file, and the command line that starts it in the job's image
inside    runs in the job: the worker, its journals as lines of the log and as files of the bucket
mirror    a job's folder here, from both
offers    what can be rented now
renting   sends one job, asks for it once, and looks for it where the answer was lost
missing   jobs that were nowhere and may show up late
watch     follows one job in a thread of its own
prices    what a job may cost, and the time that a spending limit pays for
spending  what the jobs of a sweep have cost
engine    the interface of rankviz.engines
"""
