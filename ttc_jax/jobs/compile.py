"""Compiles a config's programs for a TPU slice that need not be there, and says whether they fit.

    ttc compile --config=configs/tpu.py:llama3.2-1b,v5e-8 --topology=v5e:2x4

No weights are read: of a hub name just its config.json is. Printed are, for each device, the bytes
of HBM that programs take and leave, the FLOPs and bytes of HBM of a call or of one token, the time
that this takes at the chip's peaks, what it waits for, and what is exchanged between chips; then
how many questions and candidates would fit. The exit code is 2 where they do not.

--topology=v5e:4x4    chips of the slice; a search takes as many as its `mesh` has
--prompt=512          tokens of the longest prompts
--stage=NAME          of a config of several stages
--json=FILE           writes all of it to a file too
--hlo=DIR             writes the compiled programs there as text

It is libtpu that compiles: pip install 'ttc_jax[tpu]'. What has been compiled once is read from the
compilation cache.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.jobs import run, sweep
from ttc_jax.models import parameters
from ttc_jax.models.shapes import read_shape
from ttc_jax.parallel.compiled import Program, capacity, device_bytes, cache_bytes
from ttc_jax.parallel.mesh import make_mesh, place
from ttc_jax.parallel.topology import Topology, describe
from ttc_jax.report.tables import print_programs
from ttc_jax.results.summary import write_json
from ttc_jax.sampling.sampler import bucket
