"""Where backbones, losses, update rules and ranking meet: the Lightning modules."""
