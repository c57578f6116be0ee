"""Start of several processes for one run, in place of Lightning's launcher.

Lightning's own launcher re-runs the command line, which Hydra answers with a second output folder, and in a
sweep with a hang. Here the composed config travels to spawned processes instead; Lightning finds the
variables of a launcher in their environment and starts nothing.
"""

import gc
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.system import stopping
from recsys_lt.system.stopping import Stop

#: Seconds in which the other processes may say why they fail too, once one has.
_GRACE = 5.0


def launch(
    function: Callable[..., Any], arguments: tuple[Any, ...], n_processes: int, remedy: str | None = None
) -> tuple[Any, int]:
    """Call ``function(*arguments, stop)`` in spawned processes; what the first returned, and the signal or 0.

    ``stop`` is the ``Stop`` to heed. A signal reaches all of them; the second ends them at once, and raises Stopped.
    They never outlive this process. UserError is the first that any process raised; or one was killed, and then
    ``remedy`` says what a user can do.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    context = multiprocessing.get_context("spawn")
    # Where the processes find each other is kept here, open from the moment the system names its port: a port only
    # asked for may be another program's, or another cell's, before rank 0 opens it. Nor does it end with rank 0.
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    # Pickled here: what a process imports to read it comes after it has bound its life to this one's.
    work = pickle.dumps((function, arguments))
    processes: list[SpawnProcess] = []
    receivers: dict[int, Connection] = {}

    def forward(number: int) -> None:
        stopping.say(
            f"stopping ({stopping.name(number)}) when this epoch ends: what was reached is evaluated and written; a "
            "second signal stops at once"
        )
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)  # type: ignore[arg-type]

    stop = Stop(forward)
    with stop.listening():
        try:
            with stopping.held_back():  # until a process listens: only then it knows what to do with them
                for rank in range(n_processes):
                    receivers[rank], sender = context.Pipe(duplex=False)
                    given = (rank, work, n_processes, meeting.port, sender, os.getpid())
                    processes.append(context.Process(target=_work, args=given))
                    processes[-1].start()
                    sender.close()
            said, codes = _heard(processes, receivers)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
    return _result(said, codes, remedy), stop.number


def _heard(processes: list[SpawnProcess], receivers: dict[int, Connection]) -> tuple[dict[int, Any], dict[int, int]]:
    """What each process returns or raises, and its exit code, until all ended or one failed and the rest had time."""
    said: dict[int, Any] = {}
    codes: dict[int, int] = {}
    waiting, until = dict(receivers), float("inf")
    while len(codes) < len(processes) and time.monotonic() < until:
        running = [process.sentinel for rank, process in enumerate(processes) if rank not in codes]
        wait([*waiting.values(), *running], None if until == float("inf") else until - time.monotonic())
        for rank, process in enumerate(processes):
            code = process.exitcode  # asked first: what it said it said before it ended
            if rank in waiting and waiting[rank].poll():
                with suppress(EOFError):  # it ended without a word
                    said[rank] = waiting[rank].recv()
                del waiting[rank]
            if code is not None:
                codes[rank] = code
        if any(codes.values()):
            until = min(until, time.monotonic() + _GRACE)
    return said, codes


def _result(said: dict[int, Any], codes: dict[int, int], remedy: str | None) -> Any:
    for value in said.values():
        if isinstance(value, UserError):
            raise value
    for rank, code in codes.items():
        if rank not in said:  # the others fail then, as they cannot reach it
            how = f"was killed by {stopping.name(-code)}" if code < 0 else f"ended with exit code {code}"
            raise UserError(f"process {rank} of the run {how}", where="trainer.devices", remedy=remedy)
    for value in said.values():
        if isinstance(value, Exception):
            raise value
    return said[0]


def _work(rank: int, work: bytes, world: int, port: int, sender: Connection, parent: int) -> None:
    stopping.end_with(parent)
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's word for: whoever started the processes holds the store
    }
    os.setpgrp()  # a terminal's Ctrl-C comes once, from the process that started this one
    stop = Stop(patient=True)
    stop.listen()
    stopping.let_through()
    function, arguments = pickle.loads(work)
    import torch

    if torch.cuda.is_available():  # what a process loads by itself goes to its own device
        torch.cuda.set_device(rank % torch.cuda.device_count())
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    try:
        value = function(*arguments, stop)
    except UserError as error:
        value = error
    except Exception:
        value = RuntimeError(f"process {rank} of the run failed\n{traceback.format_exc()}")
    failed = isinstance(value, Exception)
    sender.send(value if rank == 0 or failed else None)
    if failed:
        sys.exit(1)
    # End gloo's threads while the interpreter lives. They keep what they summed last; if they let go of it while the
    # interpreter is being torn down, the process aborts, with all its work done (pytorch/pytorch#179291; without this,
    # about one launch in twelve on a busy machine).
    gc.collect()  # what wraps the model for several processes holds the group, and lies in cycles
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
