"""Several processes for one run, started by ourselves.

Lightning's own launcher re-runs the command line, which Hydra answers with a second output folder, and in a
sweep with a hang. Here the composed config travels to spawned processes instead; Lightning finds the
variables of a launcher in their environment and starts nothing.
"""

import gc
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from recsys_lt.errors import UserError


def launch(function: Callable[..., Any], arguments: tuple[Any, ...], n_processes: int) -> Any:
    """Call ``function(*arguments)`` in ``n_processes`` spawned processes; return what rank 0 returned.

    Raises
    ------
    UserError
        The first that any process raised.
    KeyboardInterrupt
        If a process was interrupted.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessException, start_processes

    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    # Where the processes find each other is kept here, open from the moment the system names its port: a port only
    # asked for may be another program's, or another cell's, before rank 0 opens it. Nor does it end with rank 0.
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    spawned = start_processes(
        _work,
        (function, arguments, n_processes, meeting.port, sender),
        nprocs=n_processes,
        join=False,
        start_method="spawn",
    )
    interrupted = False
    while True:
        try:
            if spawned.join():
                break
        except KeyboardInterrupt:
            # The processes are in groups of their own, so that they are told once, whoever was told first.
            interrupted = True
            for pid in spawned.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
        except ProcessException:  # one raised, or was killed; what was said before that counts
            if not receiver.poll():
                raise
            break
    results: dict[int, tuple[str, Any]] = {}
    while receiver.poll():
        rank, kind, value = receiver.recv()
        results[rank] = (kind, value)
    for kind, value in results.values():
        if kind == "user_error":
            raise value
        if kind == "interrupted":
            raise KeyboardInterrupt
    if 0 not in results:
        raise KeyboardInterrupt if interrupted else RuntimeError("the processes ended without a result")
    return results[0][1]


def _work(
    rank: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    world: int,
    port: int,
    sender: Connection,
) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's word for: whoever started the processes holds the store
    }
    os.setpgrp()
    import torch

    if torch.cuda.is_available():  # what a process loads by itself goes to its own device
        torch.cuda.set_device(rank % torch.cuda.device_count())
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    try:
        value = function(*arguments)
    except UserError as error:
        sender.send((rank, "user_error", error))
        raise
    except KeyboardInterrupt:
        sender.send((rank, "interrupted", None))
        raise
    if rank == 0:
        sender.send((rank, "value", value))
    _leave_group()


def _leave_group() -> None:
    """End gloo's threads while the interpreter lives.

    They keep what they summed last; if they let go of it while the interpreter is being torn down, the process aborts,
    with all its work done (pytorch/pytorch#179291; without this, about one launch in twelve on a busy machine).
    """
    from torch import distributed

    gc.collect()  # what wraps the model for several processes holds the group, and lies in cycles
    if distributed.is_initialized():
        distributed.destroy_process_group()
