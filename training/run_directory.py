"""One directory for the results of a run that several processes share.

Hydra names it after the time, and each process that torchrun or SLURM has started would take its
own. Processes that Lightning starts get the directory from the first one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta

PATTERN = "%Y-%m-%d/%H-%M-%S"
WAIT = timedelta(minutes=5)
"""How long the others wait for the first process, which may start later."""


def shared_directory(arguments: Sequence[str]) -> list[str]:
    """Return overrides of Hydra's directories, for processes that torchrun or SLURM has started.

    Args:
        arguments: the command line without the program's name.
    """
    name, rank = _shared_name()
    if name is None:
        return []
    overrides = []
    if rank:  # the settings are written once
        overrides += ["hydra.output_subdir=null", f"hydra.job.name=train_example_rank_{rank}"]
    for key, directory in (("hydra.run.dir", "outputs"), ("hydra.sweep.dir", "multirun")):
        if not any(one.lstrip("+").startswith(f"{key}=") for one in arguments):
            overrides.append(f"{key}={directory}/{name}")
    return overrides


def _shared_name() -> tuple[str | None, int]:
    """Return a name that all processes of this run share, and the number of this process."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank = int(os.environ["RANK"])
        return _agreed_name(rank), rank
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        step = os.environ.get("SLURM_STEP_ID", "0")
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{step}", int(os.environ["SLURM_PROCID"])
    return None, 0


def _agreed_name(rank: int) -> str:
    """Return the start time of the first process, through the store that torchrun serves."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its __all__

    own = time.strftime(PATTERN)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # Without a store of the agent, the first process has to serve it on the port that training
    # needs later; the directory is then named after the run.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return f"{os.environ['TORCHELASTIC_RUN_ID']}-{port}"
    store = TCPStore(address, port, is_master=False, timeout=WAIT)
    key = f"run_directory/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank == 0:
        store.set(key, own)
    agreed: bytes = store.get(key)  # waits until it is set
    return agreed.decode()
