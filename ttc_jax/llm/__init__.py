"""The front door: a language model that is asked in text."""
