"""Run folders and the folders of sweeps: their files, and how they are read."""
