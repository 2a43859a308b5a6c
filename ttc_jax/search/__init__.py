"""The search: strategies that spend a budget of generations, and the engine that runs them."""
