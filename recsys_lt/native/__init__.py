"""Kernels in C that pay for themselves; the package of each has its plain form in PyTorch."""
