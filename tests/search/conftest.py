from tests.sampling.conftest import quick_compilation

__all__ = ["quick_compilation"]
