"""How XLA compiles in tests: quickly, since tiny models take longer to compile than to run."""

from importlib.metadata import version


def xla_flags(devices: int) -> str:
    """XLA_FLAGS of a process with so many simulated devices; to be set before JAX is imported."""
    flags = [f"--xla_force_host_platform_device_count={devices}"]
    # One LLVM module a program: of so small ones, splitting takes longer than it saves.
    flags.append("--xla_cpu_parallel_codegen_split_count=1")
    if version("jaxlib").startswith("0.10."):  # later ones do not know the flag
        flags.append("--xla_cpu_use_fusion_emitters=false")  # halves compile times
    return " ".join(flags)
