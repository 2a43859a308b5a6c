"""Training: the loop, its batches, and what each kind of model is taught."""
