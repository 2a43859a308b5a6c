"""Interrupts jobs at random moments, and compares what they end in with an uninterrupted run.

    python -m tests.bench.interrupt FOLDER --json=FILE [--kill N] [--term N] [--int N] [--disks N]

Each job runs uninterrupted twice, which must agree. Then come rounds: in a new workdir at the same
path the job is started and gets a signal (SIGKILL, SIGTERM, SIGINT) at a random moment, up to three
times, most of them after the first file is written; then the same command runs to its end. A round
fails where a file differs (`tests.bench.same`) or is left behind, where the exit code or the
output of an interrupted job is not as docs/trust.md says, or where a job hangs. Of two hosts one
gets the signal, or both. Every twelfth round starts a Python of its own, where the others fork.
Moments are counted in processor time, so that a busy machine does not move them.

Full disks are small ones that are mounted as the workdir, with less room than the job takes; then
they are made larger and the same command goes on. That needs the right to mount, which also
`unshare --map-root-user --mount python -m tests.bench.interrupt ...` gives.

FILE holds the counts by job and kind of interruption, and all failures; workdirs and output of
rounds that failed stay in FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.interrupt_jobs import JOBS, Process, Server, environment
from tests.bench.same import differences
from tests.hosts.ports import free_port

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
CODES = {"kill": -signal.SIGKILL, "term": 128 + signal.SIGTERM, "int": 130}
HANGS = 900.0  # seconds
PAGE = 4096
SPAWNED = 12  # of so many rounds one starts a Python of its own


@dataclasses.dataclass
class Count:
    """What came of the rounds of a job with one kind of interruption."""

    rounds: int = 0
    interruptions: int = 0
    in_work: int = 0  # of them: after the first file was written
    codes: dict[str, int] = dataclasses.field(default_factory=dict)  # of interrupted jobs
    failures: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.interruptions} interruptions, {self.in_work} in work, "
            f"{len(self.failures)} failures"
        )


class Figures:
    """The counts by job and kind of interruption, in a file that is written after each round.

    Args:
        path: what it holds of earlier calls is added to.
    """

    def __init__(self, path: Path):
        self._path = path
        held = json.loads(path.read_text()) if path.exists() else {}
        self._counts = {
            job: {kind: Count(**count) for kind, count in counts.items()}
            for job, counts in held.items()
        }

    @contextlib.contextmanager
    def counting(self, job: str, kind: str) -> Iterator[Count]:
        """A round that is counted."""
        counts = self._counts.setdefault(job, {kind: Count() for kind in (*SIGNALS, "disks")})
        yield counts[kind]
        counts[kind].rounds += 1
        jobs = {
            job: {kind: dataclasses.asdict(count) for kind, count in counts.items()}
            for job, counts in self._counts.items()
        }
        self._path.write_text(json.dumps(jobs, indent=2) + "\n")

    def failed(self) -> bool:
        """Whether any round has."""
        return any(count.failures for job in self._counts.values() for count in job.values())

    def table(self) -> str:
        """In Markdown: rounds, interruptions, and failures."""
        kinds = (*SIGNALS, "disks")
        rows = [["job", *kinds], ["---"] * (1 + len(kinds))]
        rows += [[name, *map(str, counts.values())] for name, counts in self._counts.items()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class Bench:
    """One job in its folder, with the reference that its rounds are compared with."""

    def __init__(self, name: str, folder: Path, server: Server, env: dict[str, str], seed: int):
        self.name, self.server, self.env = name, server, env
        self.folder, self.now = folder / name, folder / name / "now"
        self.reference = self.folder / "reference"
        self.random = random.Random(f"{name} {seed}")  # another seed: other moments
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.log = self.folder / "reference.log"
        self._whole()  # compiles
        self.now.rename(self.reference)
        self.begins, self.lasts = self._whole()
        if lines := differences(self.now, self.reference):
            sys.exit(f"{name}: two uninterrupted runs differ:\n" + "\n".join(lines))
        print(f"{name}: {self.lasts:.1f} s, writes from {self.begins:.1f} s on", flush=True)

    def _whole(self) -> tuple[float, float]:
        """Runs to the end; returns the processor time until the first file, and until the end."""
        processes, begins, lasts = self._start(self.server), 0.0, 0.0
        while processes[0].poll() is None:
            lasts = max(lasts, processes[0].cpu())
            begins = begins or lasts * (self.now / "config.json").exists()
            time.sleep(0.02)
        if any(code != 0 for code in self._wait(processes)):
            sys.exit(f"{self.name}: uninterrupted it ended otherwise than in 0, see {self.log}")
        return begins, lasts

    def _start(self, server: Server | None) -> list[Process]:
        flags: list[list[str]] = [[]]
        if self.name == "hosts":
            where = f"--coordinator=127.0.0.1:{free_port()}"
            flags = [["--hosts=2", f"--host={index}", where] for index in range(2)]
        return [
            Process([*JOBS[self.name], f"--workdir={self.now}", *own], self.log, server, self.env)
            for own in flags
        ]

    def _wait(self, processes: Sequence[Process], cpu: float = math.inf) -> list[int | None]:
        """Waits for the end, or until the first has taken so much processor time.

        Returns:
            The exit codes; None for what still ran. What hangs is killed.
        """
        deadline = time.monotonic() + HANGS
        while None in (codes := [x.poll() for x in processes]) and processes[0].cpu() < cpu:
            if time.monotonic() > deadline:
                for process in processes:
                    process.signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        return codes

    def begin(self, round_: str) -> None:
        """Makes room for a new round."""
        shutil.rmtree(self.now, ignore_errors=True)
        self.log = self.folder / f"{round_}.log"
        self.log.unlink(missing_ok=True)

    def interrupted(self, kind: str, number: int, count: Count) -> None:
        """A round with a signal."""
        self.begin(f"{kind}-{number}")
        server = None if number % SPAWNED == SPAWNED - 1 else self.server
        failures: list[str] = []
        times = self.random.choices((1, 2, 3), (6, 3, 1))[0]
        for again in range(times):
            failures += self._interrupt(kind, server, 0.6**again, count)
        self._end(f"{kind}-{number}", failures, count)

    def _interrupt(self, kind: str, server: Server | None, share: float, count: Count) -> list[str]:
        """Starts the job and interrupts it; returns what is wrong.

        Args:
            share: of the reference's work that is taken to be still to be done.
        """
        after = self.begins if self.random.random() < 0.85 else 0.0
        moment = after + self.random.random() * (self.lasts - after) * share
        processes, before = self._start(server), self._said()
        self._wait(processes, moment + (0.0 if server else self.server.ask({"imports": True})))
        victims = self.random.choice([[0], [1], [0, 1]]) if len(processes) > 1 else [0]
        hit = [i for i in victims if processes[i].signal(SIGNALS[kind])]
        if not hit:
            return [f"ended with {x}" for x in self._wait(processes) if x]
        count.interruptions += len(hit)
        count.in_work += len(hit) * any(x.name == "config.json" for x in self.now.rglob("*.json"))
        codes = self._wait(processes)
        for process in processes:
            process.signal(signal.SIGKILL)
        # Who had already done its work ends as usual; who misses another host, in exit code 2.
        # Before and after its work, at the imports and at its end, a signal ends it silently.
        allowed = {CODES[kind], -SIGNALS[kind], 0} | ({2} if len(processes) > 1 else set())
        said = self._said()[len(before) :]
        wrong = [f"{kind} at {moment:.2f} s: exit code {x}" for x in codes if x not in allowed]
        expected = sum(code is not None and code > 0 for code in codes)
        if len(said) != expected or not all(line.startswith("ttc: ") for line in said):
            wrong.append(f"{kind} at {moment:.2f} s: {len(said)} lines, as {said[-1:]}")
        self._note(codes, count)
        return wrong

    @staticmethod
    def _note(codes: Sequence[int | None], count: Count) -> None:
        for code in map(str, codes):
            count.codes[code] = count.codes.get(code, 0) + 1

    def filled(self, room: int, number: int, count: Count) -> None:
        """A round on a disk that is too small."""
        self.begin(f"disk-{number}")
        self.now.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(self.now)]
        subprocess.run(mount, check=True)
        failures: list[str] = []
        try:
            codes = self._wait(self._start(self.server))
            self._note(codes, count)
            said = self._said()
            if any(code != 2 for code in codes):
                failures.append(f"{room} bytes: exit codes {codes}")
            if len(said) != len(codes) or "make room" not in "".join(said):
                failures.append(f"{room} bytes: {len(said)} lines, as {said[-1:]}")
            count.interruptions += 1
            count.in_work += (self.now / "config.json").exists()
            subprocess.run(["mount", "-o", "remount,size=1g", str(self.now)], check=True)
            self._end(f"disk-{number}", failures, count)
        finally:
            subprocess.run(["umount", "--lazy", str(self.now)], check=True)

    def sizes(self, disks: int) -> list[int]:
        """Bytes of disks that the job's files do not fit on."""
        files = [x for x in self.reference.rglob("*") if x.is_file()]
        pages = sum(-(-x.stat().st_size // PAGE) for x in files)
        return [PAGE * max(1, pages * i // (disks + 1)) for i in range(1, disks + 1)]

    def _end(self, round_: str, failures: list[str], count: Count) -> None:
        """Runs to the end, compares, and counts."""
        before = self._said()
        codes = self._wait(self._start(self.server))
        if any(code != 0 for code in codes):
            failures.append(f"the last start ended with {codes}")
        elif said := self._said()[len(before) :]:
            failures.append(f"the last start says {said[-1]!r}")
        failures += differences(self.now, self.reference)
        count.failures += [f"{self.name} {round_}: {failure}" for failure in failures]
        if failures:
            print("\n".join(count.failures[-len(failures) :]), flush=True)
            kept = self.folder / f"failed-{round_}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.now, kept)
        else:
            self.log.unlink()

    def _said(self) -> list[str]:
        """The lines on stderr and stdout that are no progress and no results."""
        if not self.log.exists():
            return []
        text = self.log.read_text(errors="replace").replace("\r", "\n")
        return [x for x in text.split("\n") if x.startswith(("ttc: ", "Traceback", "Exception"))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Interrupts, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for workdirs and output")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, with commas")
    for kind, rounds in {"kill": 17, "term": 4, "int": 4}.items():
        parser.add_argument(f"--{kind}", type=int, default=rounds, help="rounds of each job")
    parser.add_argument("--disks", type=int, default=5, help="sizes of full disks for each job")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    env = environment(folder / "xla")
    server, figures = Server(env), Figures(options.json)
    for name in options.jobs.split(","):
        bench = Bench(name, folder, server, env, options.seed)
        wanted = {kind: getattr(options, kind) for kind in (*SIGNALS, "disks")}
        sizes = bench.sizes(options.disks)
        # In turn, so that figures are of use before the end.
        for _, kind, number in sorted(
            (i / n, kind, i) for kind, n in wanted.items() for i in range(n)
        ):
            with figures.counting(name, kind) as count:
                if kind == "disks":
                    bench.filled(sizes[number], number, count)
                else:
                    bench.interrupted(kind, number, count)
    print(figures.table())
    sys.exit(figures.failed())


if __name__ == "__main__":
    main()
