"""Drawing answers: one token a row, and the decode loop."""
