"""Kernels in C for what PyTorch's own operations do in many passes; each stands beside a plain form in Python."""
