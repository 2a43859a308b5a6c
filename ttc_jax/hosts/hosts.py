"""One command on many hosts: each runs it with its own index, on its own devices.

    ttc run ... --hosts=auto                                            a TPU pod, GKE, Slurm, MPI
    ttc run ... --hosts=2 --host=0 --coordinator=10.0.0.1:8476          the first of two
    ttc run ... --hosts=2 --host=1 --coordinator=10.0.0.1:8476          the second

A roll call comes first: who is missing, or has another config or another version, is named before
any work is done. Its connections stay open, and so tell at once of a host that dies; then all end,
with one line that names it. JAX would tell later and with a stack trace, and not who, so outside of
training, whose devices talk to each other, its own watch ends as soon as all devices are known.
Searches talk to no other host: questions are split, records stored by host, and the first host
reports when all have stored theirs. The workdir must be on a disk that all hosts share.
"""

from __future__ import annotations

import atexit
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ttc_jax
from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.hosts.channel import END, HostChannel
from ttc_jax.hosts.roll_call import HostId, bind_address
from ttc_jax.signals import Interrupted

T = TypeVar("T")

AUTO = "auto"
TIMEOUT = 300  # seconds
_line: HostChannel | None = None


def index() -> int:
    """This host's, from 0."""
    return _line.here.index if _line else 0


def count() -> int:
    """How many hosts there are."""
    return _line.here.count if _line else 1


def is_first() -> bool:
    """Whether this host is the one that reports and writes what there is one of."""
    return index() == 0


def mine(items: Sequence[T]) -> list[T]:
    """This host's items: every host has others, and none is left out."""
    return list(items[index() :: count()])


def wait(event: str) -> None:
    """Returns when every host has come to this event; at once where there is one host.

    Raises:
      UserError: another host waits for another event.
    """
    if _line is not None:
        _line.wait(event)


def place(hosts: str, host: str, coordinator: str, timeout: float) -> HostId | None:
    """What the flags say; None: one host.

    Raises:
      UserError: values that do not fit together, or nothing that `auto` could ask.
    """
    if hosts == AUTO:
        return _detected(timeout)
    if not hosts.isdecimal() or int(hosts) < 1:
        raise UserError(f"--hosts={hosts}: must be {AUTO} or the number of hosts")
    if int(hosts) == 1:
        return None
    if not host.isdecimal() or int(host) >= int(hosts):
        raise UserError(f"--host={host}: must be this host's index, 0 to {int(hosts) - 1}")
    return HostId(int(host), int(hosts), _address(coordinator))


@contextlib.contextmanager
def together(
    here: HostId | None,
    facts: Mapping[str, Any],
    workdir: Path | None,
    *,
    timeout: float = TIMEOUT,
    talking: bool = False,
) -> Iterator[None]:
    """Within it this host is one of several; before any use of JAX's devices.

    Args:
      here: from `place`; None: nothing happens.
      facts: what all hosts must agree on, by the name that errors give it; ready for JSON.
      workdir: must be shared by all hosts.
      timeout: seconds that hosts have to come up.
      talking: devices of several hosts compute together.

    Raises:
      UserError: a host that is missing or disagrees (names it and what on); a workdir that is not
        shared; a port that is taken.
    """
    global _line
    if here is None:
        yield
        return
    facts = {"--hosts": here.count, "the source of ttc_jax": _digest(), **facts}
    if workdir is None:
        raise UserError("--hosts: needs a --workdir on a disk that all hosts share")
    # Tuples come back as lists.
    _line = HostChannel(here, json.loads(json.dumps(facts)), workdir, timeout)
    try:
        import jax  # here: who waits for a host waits for nothing else

        address, port = here.coordinator
        # It would keep SIGTERM from ending a run; one that is ended goes on when it is given again.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            f"{address}:{port + 1}",
            here.count,
            here.index,
            coordinator_bind_address=_bind(here),
            local_device_ids=here.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(timeout),
        )
        jax.devices()  # every host's: they are exchanged now
        if not talking:
            jax.distributed.shutdown()
        yield
        _line.wait(END)
    except BaseException as error:
        _line.tell(error)
        if talking:  # at exit JAX would wait for the others, and abort where they have ended
            code = {UserError: 2, KeyboardInterrupt: 130}.get(type(error), 1)
            code = error.code if isinstance(error, Interrupted) else code
            atexit.register(_line.exit, code)
        raise
    finally:
        _line = None


def _detected(timeout: float) -> HostId | None:
    # JAX knows how many schedulers say it, and has no public name for asking.
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout)
        )
    except (RuntimeError, OSError) as error:
        raise UserError(f"--hosts={AUTO}: the hosts cannot be found out: {error}") from error
    if address is None or count is None or index is None:
        raise UserError(
            f"--hosts={AUTO}: neither a TPU pod nor a job of Slurm or Open MPI; give --hosts=COUNT "
            "--host=INDEX --coordinator=ADDRESS:PORT"
        )
    return HostId(index, count, _address(address), devices) if count > 1 else None


def _bind(here: HostId) -> str | None:
    """Where JAX's own service listens on the first host: where the roll call did."""
    address, port = bind_address(here) if here.index == 0 else "", here.coordinator[1] + 1
    if not address:
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _address(text: str) -> tuple[str, int]:
    name, _, port = text.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65535:
        raise UserError(
            f"--coordinator={text}: must be the first host's ADDRESS:PORT, as in 10.0.0.1:8476; "
            "the port behind it is used too"
        )
    return name, int(port)


def _digest() -> str:
    """Of the package's source, which an edited checkout need not share with its version."""
    return hashing.of_folder(Path(ttc_jax.__file__).parent, ("*.py",))
