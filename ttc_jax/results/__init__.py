"""Records on disk, and what follows from them without a model."""
