"""Commands of the program. Only this package knows the command lines of Hydra and argparse."""
