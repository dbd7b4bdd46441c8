"""What the platform needs of the machine: files, locks, provenance, processes, the terminal."""
