"""Programs compiled for TPU slices that need not be there, and what they cost."""
