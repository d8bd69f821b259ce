"""Workers, disks and files, and what work something takes."""
