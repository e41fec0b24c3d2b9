"""What every contestant says and hears, for those of Python: the twin of ../../src/measure/peers/contestant.rs."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

INSERT = "INSERT INTO business (customer, note) VALUES (:customer, :note)"


def order(n):
    return {"n": n, "note": "x" * 178}


@dataclass(frozen=True)
class Task:
    url: str
    mode: str
    fast: bool
    rows: int
    pool: int
    pause: float


class Calls:
    """Which row came to the handler when."""

    def __init__(self, rows):
        self.at = [None] * rows
        self.calls = 0
        self.distinct = 0
        self.waiting = (rows + 1, asyncio.Event())

    async def reach(self, rows):
        """Waits until so many rows were seen."""
        if self.distinct < rows:
            self.waiting = (rows, asyncio.Event())
            await self.waiting[1].wait()

    def note(self, n):
        now = time.perf_counter()
        self.calls += 1
        if self.at[n] is None:
            self.at[n] = now
            self.distinct += 1
            if self.distinct >= self.waiting[0]:
                self.waiting[1].set()


def say(words):
    print(json.dumps(words), flush=True)


async def compete(prepare):
    """`prepare(task, handle)` gives an object with `left`, `start`, `publish` and `stop`; its handler ends with `handle(n)`."""
    url, mode, settings, rows, pool, pause = sys.argv[1:]
    task = Task(url, mode, settings == "fast", int(rows), int(pool), int(pause) / 1000)
    calls = Calls(task.rows)

    async def handle(n):
        if mode == "drain" and task.pause > 0:
            await asyncio.sleep(task.pause)
        calls.note(n)

    peer = await prepare(task, handle)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({"ready": {"left": peer.left}})
    if not await lines.readline():
        raise EOFError("nobody said go")
    begun = time.perf_counter()
    await peer.start()
    if mode == "latency":
        say({"latencies": await latencies(task, peer, calls)})
    else:
        await calls.reach(task.rows)
        say({"done": {"first": min(calls.at) - begun, "last": max(calls.at) - begun}})
    await lines.read()
    await peer.stop()
    say({"ended": {"calls": calls.calls, "distinct": calls.distinct}})


async def latencies(task, peer, calls):
    # What follows a start is over.
    await asyncio.sleep(1)
    committed = []
    for n in range(task.rows):
        # As a poll goes on from the row before, each part of it gets its share.
        await asyncio.sleep(0.15 + task.pause * (n * 37 % 100) / 100)
        await peer.publish(n)
        committed.append(time.perf_counter())
        # The next one finds it idle again.
        await calls.reach(n + 1)
    # A notification can be quicker than the answer to the commit. The first row is everybody's warm-up.
    return [max(0.0, (at - commit) * 1000) for at, commit in zip(calls.at, committed)][1:]
