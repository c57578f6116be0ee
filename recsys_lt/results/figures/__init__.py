"""One file a kind of figure: cells in, ``Illustration`` out."""
