"""How the files of each known format become ``Interactions``; one file a format."""
