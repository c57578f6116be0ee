"""Recommenders made of a language model."""

import os

# Every pack has a length of its own, and for each of the two dozen products that length has a part in, oneDNN keeps
# about a megabyte, a thousand times over: 2 GB in a run in bfloat16 on a processor. A pack's own products are enough,
# for its layers repeat them. Both are read at the first product of that kind, so they must be there before it.
for _kept in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_kept, "128")
