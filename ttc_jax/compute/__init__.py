"""What the work costs: generations, tokens and FLOPs."""
