"""Questions that ask for a program: the programs in answers, how they are run and judged."""
