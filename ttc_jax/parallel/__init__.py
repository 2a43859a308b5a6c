"""How a model lies over many devices."""
