"""What every scenario needs: where the emulator is, entities of its own, and how it is told that it passed.

A scenario is a function (plain or async) of one argument, `Place`, under `@scenario(row, ...)`. The rows are those of
../rows.txt: the sentences of service-bus.md that it proves. Scenarios run side by side, so that each makes its own
entities (`place.queue()`, `place.topic()`) and closes what it opens (`place.client()` closes itself).
"""

import asyncio
import concurrent.futures
import contextlib
import inspect
import os
import sys
import threading
import time
import traceback
import urllib.request
import uuid

from azure.servicebus import ServiceBusClient
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient
from azure.servicebus.management import ServiceBusAdministrationClient

# As sdk/run gives them.
CONNECTION = os.environ["EMULATOR_CONNECTION"]
ADMIN_CONNECTION = os.environ["EMULATOR_ADMIN_CONNECTION"]
AMQP = os.environ["EMULATOR_AMQP"]
HTTP = os.environ["EMULATOR_HTTP"]
CERTIFICATE = os.environ["EMULATOR_CERTIFICATE"]
KEY_NAME = "RootManageSharedAccessKey"
KEY = "SAS_KEY_VALUE"

# Seconds that one scenario may take, and how many run side by side.
PATIENCE = float(os.environ.get("EMULATOR_PATIENCE", "60"))
SIDE_BY_SIDE = int(os.environ.get("EMULATOR_SIDE_BY_SIDE", "8"))
# Whether the first failure ends the suite.
FAIL_FAST = "EMULATOR_FAIL_FAST" in os.environ

SCENARIOS = []


def scenario(*rows):
    """Makes a scenario of a function. `rows` are lines of ../rows.txt that it proves, as written there."""

    def add(function):
        SCENARIOS.append((function.__module__.rpartition(".")[2] + "." + function.__name__, rows, function))
        return function

    return add


class Place:
    """One scenario's corner of the emulator."""

    def __init__(self):
        self._closing = contextlib.ExitStack()
        self._admin = None

    @property
    def admin(self):
        """The administration client. It always speaks https, so it is told whom to trust."""
        if self._admin is None:
            self._admin = self._closing.enter_context(
                ServiceBusAdministrationClient.from_connection_string(
                    ADMIN_CONNECTION, connection_verify=CERTIFICATE
                )
            )
        return self._admin

    @staticmethod
    def name(kind="q"):
        """A name that nobody else has."""
        return f"{kind}-{uuid.uuid4().hex[:12]}"

    def queue(self, **settings):
        """The name of a new queue with these settings (`lock_duration`, `requires_session`, ...)."""
        name = self.name("queue")
        self.admin.create_queue(name, **settings)
        return name

    def topic(self, **settings):
        """The name of a new topic with these settings."""
        name = self.name("topic")
        self.admin.create_topic(name, **settings)
        return name

    def subscription(self, topic, **settings):
        """The name of a new subscription, which takes everything."""
        name = self.name("sub")
        self.admin.create_subscription(topic, name, **settings)
        return name

    def client(self, **options):
        """A client that is closed with the scenario."""
        return self._closing.enter_context(ServiceBusClient.from_connection_string(CONNECTION, **options))

    @staticmethod
    def async_client(**options):
        """A client for `async with`."""
        return AsyncServiceBusClient.from_connection_string(CONNECTION, **options)

    @staticmethod
    def server_busy(entity, seconds):
        """The emulator's own way to answer everything at an entity with server-busy for a while."""
        token = generate_sas_token("https://localhost", KEY_NAME, KEY)
        url = f"http://{HTTP}/$emulator/server-busy?entity={entity}&seconds={seconds}"
        request = urllib.request.Request(url, method="PUT", headers={"Authorization": token})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def close(self):
        self._closing.close()


@contextlib.contextmanager
def raises(kind, *texts):
    """Passes where the block raises such an error with these texts in it."""
    try:
        yield
    except kind as error:
        for text in texts:
            assert text in f"{error!r} {error}", f"no {text!r} in {error!r}"
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def eventually(look, patience=20.0):
    """What `look` gives as soon as it gives something true."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{look} never came true"
        time.sleep(0.05)


def _run(function):
    place = Place()
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(function(place))
        else:
            function(place)
    finally:
        place.close()


def main(only):
    """Runs the scenarios with `only` in their name, and exits."""
    chosen = [one for one in SCENARIOS if only in one[0]]
    passed = failed = 0
    begun = {}
    lock = threading.Lock()

    def timed(name, function):
        with lock:
            begun[name] = time.monotonic()
        _run(function)

    pool = concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE)
    futures = {pool.submit(timed, name, function): (name, rows) for name, rows, function in chosen}
    waiting = set(futures)
    while waiting:
        done, waiting = concurrent.futures.wait(waiting, 1, concurrent.futures.FIRST_COMPLETED)
        now = time.monotonic()
        with lock:
            late = {one for one in waiting if now - begun.get(futures[one][0], now) > PATIENCE}
        waiting -= late
        for future in done | late:
            name, rows = futures[future]
            took = now - begun[name]
            error = None if future in late else future.exception()
            if future in late:
                text = f"not done after {PATIENCE:.0f} s\n"
                # Where it hangs, of all threads: nobody knows which is its own.
                frames = sys._current_frames()
                text += "".join("".join(traceback.format_stack(frame)[-4:]) for frame in frames.values())
            elif error is not None:
                text = "".join(traceback.format_exception(error))
            else:
                print(f"ok   python {name} ({'; '.join(rows)}) {took:.1f} s", flush=True)
                passed += 1
                continue
            failed += 1
            print(f"FAIL python {name} ({'; '.join(rows)}) {took:.1f} s\n{text}", flush=True)
        if failed and FAIL_FAST:
            break
    print(f"python: {passed} passed, {failed} failed", flush=True)
    # Threads that hang don't hinder the end.
    os._exit(1 if failed or not chosen else 0)
