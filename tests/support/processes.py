"""Programs of this project as processes, one or several hosts of them."""

import os
import pathlib
import re
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f'--config={ROOT / "tests" / "support" / "tiny.py"}'


def start(program, *arguments, hosts=1, devices=1, flags=''):
    """Starts `train.py` or another program on as many hosts, each with as many CPU devices; the processes."""
    flags = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={devices} {flags}'
    environment = os.environ | {'XLA_FLAGS': flags.strip(), 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    if hosts > 1:
        command += [f'--coordinator_address=localhost:{free_port()}', f'--num_processes={hosts}']
    return [
        subprocess.Popen(
            [*command, f'--process_id={number}'] if hosts > 1 else command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for number in range(hosts)
    ]


def finish(processes, timeout=240):
    """(exit status, what was printed) of each process, once all have ended; those that take too long are killed."""
    try:
        printed = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, printed, strict=True)]


def run(program, *arguments, timeout=240, **options):
    """Starts and finishes; what the first host printed. All have to end well."""
    outcomes = finish(start(program, *arguments, **options), timeout)
    for status, text in outcomes:
        assert status == 0, text
    return outcomes[0][1]


def losses(text):
    """`{step: {name: value}}` of the lines that training printed."""
    lines = re.findall(r'^step (\d+)/\d+  (.*)  order_accuracy', text, re.MULTILINE)
    found = {}
    for step, pairs in lines:
        words = pairs.split()
        found[int(step)] = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    return found


def free_port():
    """One that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(('localhost', 0))
        return listener.getsockname()[1]
