"""Hugging Face Jobs: a job rents a machine for one base with all its runs, on the account of whoever started them.

logins      tokens, in memory alone
hub         the calls: jobs, the repository that carries what a job needs, the bucket that brings back what it made
answers     what they answer
code        this package as one file, and the command line that starts it in the job's image
inside      runs in the job: the worker, its journals as lines of the log and as files of the bucket
offers      what can be rented now
prices      what a job may cost, and the time that a spending limit pays for
papers      what is written down of jobs
renting     sends one job, asks for it once, and looks for it where the answer was lost
following   one job in a thread of its own: its log, its journals and adapters, its stage
cancelling  ends one job, in steps
ends        how a job ended
missing     jobs that were nowhere and may show up late
returning   jobs that come back to an emptied runs folder
spending    what the jobs of a sweep have cost
words       why a run waits, and why it does not start
engine      the interface of rankviz.engines
"""
