"""The operating system: atomic writes, signals, memory, and what a machine refuses."""
