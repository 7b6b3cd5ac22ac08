"""The machine's hazards, one per file: locks, presence, disks, processes."""
