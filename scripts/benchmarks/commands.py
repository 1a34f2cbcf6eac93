"""What a command takes in a process of its own: the time to its first line, and its memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from data.errors import UserError

# a small process between: what the system notes as the peak of a child begins with that of the process it came from
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def first_line(command: Sequence[str], text: str) -> float:
    """Seconds from starting a command, which is given `text` on standard input, to its first line.

    Raises:
        UserError: it failed, or wrote nothing.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as messages:
        given.write(text.encode())
        given.seek(0)
        began = time.perf_counter()
        with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=messages) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - began
            process.stdout.read()
        if process.returncode or not line:
            messages.seek(0)
            raise UserError(f"the command failed: {messages.read().decode(errors='replace').strip()}")
    return seconds


def peak_memory(command: Sequence[str]) -> int:
    """Run a command; the most bytes that it held itself (resident, those of shared libraries included).

    Raises:
        UserError: it failed.
    """
    made = subprocess.run([sys.executable, "-c", _LAUNCHER, *command], capture_output=True, text=True, check=False)
    if made.returncode:
        raise UserError(f"the command failed: {made.stderr.strip()}")
    return int(made.stdout) * (1 if sys.platform == "darwin" else 1024)  # the one system counts in kilobytes
