"""The commands: what a person types, and the only code that knows Hydra's and argparse's command lines."""
