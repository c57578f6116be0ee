"""Where Hydra finds the choices of this study: its losses, callback and experiments."""

import json
from pathlib import Path

#: As an override.
CHOICES = f"hydra.searchpath={json.dumps([str(Path(__file__).with_name('conf'))])}"
