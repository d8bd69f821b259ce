"""What a job does, followed: its log, its journals in the bucket, its stage."""
