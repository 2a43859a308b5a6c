# torch is an extra: the checks must pass where it is not installed.
from typing import Any

def __getattr__(name: str) -> Any: ...
