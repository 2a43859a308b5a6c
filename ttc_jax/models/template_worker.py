"""The program of a template worker: it renders chat templates under hard bounds.

It runs as a process of its own (see `ttc_jax.models.templates`), started by its file's path, so
that it imports neither this package nor the caller's main module, whose memory would count here.

    python template_worker.py SECONDS MEGABYTES

Standard input: one JSON object a line, {"template", "messages", "variables"}, or with just the
template. Standard output: the line `"ready"`, then for each request one JSON object: {"text"}, or
{"names"}, the variables that the template reads, or {"error"}, why it could not be done. A request
that takes more than SECONDS of the processor's time ends the process: by the kernel's own alarm,
so that a loop inside a C function ends too. Time spent waiting for a busy machine does not count.
"""

import datetime
import json
import os
import random
import resource
import signal
import sys
from typing import Any

MOST_CHARACTERS = 10_000_000  # of a rendered conversation: beyond any model's context
TODAY = datetime.datetime(2024, 7, 26)  # that of `ttc_jax.models.templates.TODAY`


def main() -> None:
    """Serves requests until standard input ends."""
    seconds, megabytes = float(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":  # other kernels do not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # which a group gets: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    from transformers.utils import chat_template_utils  # under the bound, and before "ready"

    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # whatever a library prints must not end up among the replies
    os.dup2(silence, 2)
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            reply = _reply(chat_template_utils, request)
        except MemoryError:
            reply = {"error": f"it takes more than {megabytes:,} MB"}
        except Exception as error:  # a template may raise anything
            reply = {"error": f"{error}"[:1000] or type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies, flush=True)


def _reply(utils: Any, request: dict[str, Any]) -> dict[str, Any]:
    template = request["template"]
    # The environment of transformers, a sandbox, but for what would differ from day to day.
    environment = utils._compile_jinja_template(template).environment
    environment.globals["strftime_now"] = TODAY.strftime
    random.seed(0)  # the filter `random`, and the function `lipsum`
    if "messages" not in request:
        from jinja2 import meta

        return {"names": sorted(meta.find_undeclared_variables(environment.parse(template)))}
    [text], _ = utils.render_jinja_template(
        conversations=[request["messages"]],
        chat_template=template,
        add_generation_prompt=True,
        **request["variables"],
    )
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it writes {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    return {"text": text}


if __name__ == "__main__":
    main()
