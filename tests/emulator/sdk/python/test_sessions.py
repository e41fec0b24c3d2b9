"""Sessions: who holds one, for how long, and what it keeps."""

import datetime
import threading

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from suite import eventually, raises, scenario
from test_messages import nothing_comes, take, take_and_complete

SECOND = datetime.timedelta(seconds=1)


def send(client, queue, *pairs):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(text, session_id=session) for session, text in pairs])


@scenario("3.5 a named session", "4.5 sessions keep their order")
def a_named_session_gives_its_messages_in_order(place):
    queue, client = place.queue(requires_session=True), place.client()
    send(client, queue, *[(session, f"{session}{n}") for n in range(10) for session in "ab"])
    for session in "ba":
        with client.get_queue_receiver(queue, session_id=session) as receiver:
            assert receiver.session.session_id == session
            found = take_and_complete(receiver, 10)
            assert [str(message) for message in found] == [f"{session}{n}" for n in range(10)]
            assert {message.session_id for message in found} == {session}
            nothing_comes(receiver)


@scenario("3.5 the next available session", "3.5 no session in time")
def the_next_session_is_one_with_messages(place):
    queue, client = place.queue(requires_session=True), place.client()
    with raises(OperationTimeoutError):
        with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1):
            pass
    send(client, queue, ("a", "1"), ("b", "2"))
    found = set()
    for _ in range(2):
        with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5) as receiver:
            found.add(receiver.session.session_id)
            take_and_complete(receiver, 1)
    assert found == {"a", "b"}


@scenario("3.5 a session that somebody else holds", "4.5 sessions are exclusive")
def a_held_session_is_nobody_elses(place):
    queue, client = place.queue(requires_session=True), place.client(retry_total=0)
    send(client, queue, ("a", "1"), ("b", "2"))
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        with raises(SessionCannotBeLockedError):
            with client.get_queue_receiver(queue, session_id="a"):
                pass
        with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5) as other:
            assert other.session.session_id == "b"
        take_and_complete(receiver, 1)
    with client.get_queue_receiver(queue, session_id="a"):
        pass


@scenario("3.5 the next available session", "4.5 sessions are exclusive", "4.5 sessions keep their order")
def many_clients_share_many_sessions(place):
    queue = place.queue(requires_session=True)
    client = place.client()
    sessions, each = 20, 5
    send(client, queue, *[(f"s{session}", str(n)) for n in range(each) for session in range(sessions)])
    found, errors, lock = {}, [], threading.Lock()

    def work():
        try:
            mine = place.client()
            while True:
                try:
                    with mine.get_queue_receiver(
                        queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=2
                    ) as receiver:
                        session = receiver.session.session_id
                        for message in take_and_complete(receiver, each):
                            with lock:
                                found.setdefault(session, []).append(int(str(message)))
                except OperationTimeoutError:
                    return
        except Exception as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert found == {f"s{session}": list(range(each)) for session in range(sessions)}


@scenario("3.5 a session lock is lost", "3.7 settling after the lock is gone")
def a_session_that_is_held_too_long_is_lost(place):
    queue, client = place.queue(requires_session=True, lock_duration=SECOND), place.client(retry_total=0)
    send(client, queue, ("a", "1"))
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        (message,) = take(receiver, 1)

        def somebody_else():
            try:
                return client.get_queue_receiver(queue, session_id="a").__enter__()
            except SessionCannotBeLockedError:
                return None

        other = eventually(somebody_else)
        try:
            with raises(SessionLockLostError):
                receiver.complete_message(message)
            (again,) = take(other, 1)
            assert again.delivery_count == 1
            other.complete_message(again)
        finally:
            other.close()


@scenario("3.8 renew-session-lock")
def a_renewed_session_lasts(place):
    queue, client = place.queue(requires_session=True, lock_duration=3 * SECOND), place.client(retry_total=0)
    send(client, queue, ("a", "1"))
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        (message,) = take(receiver, 1)
        first = receiver.session.locked_until_utc
        for _ in range(4):
            assert not receiver.receive_messages(max_wait_time=1)
            assert receiver.session.renew_lock() > first
        receiver.complete_message(message)


@scenario("3.8 get- and set-session-state", "4.5 session state outlives messages")
def a_sessions_state_outlives_its_messages(place):
    queue, client = place.queue(requires_session=True), place.client()
    send(client, queue, ("a", "1"))
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        assert receiver.session.get_state() is None
        receiver.session.set_state(b"half done \x00\xff")
        take_and_complete(receiver, 1)
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        assert receiver.session.get_state() == b"half done \x00\xff"
        receiver.session.set_state(None)
        assert receiver.session.get_state() is None


@scenario("3.5 a session receiver on a plain entity", "3.5 a plain receiver on a session entity")
def the_kind_of_receiver_must_fit(place):
    plain, with_sessions = place.queue(), place.queue(requires_session=True)
    client = place.client(retry_total=0)
    with raises(ServiceBusError):
        with client.get_queue_receiver(plain, session_id="a"):
            pass
    with raises(ServiceBusError):
        with client.get_queue_receiver(with_sessions) as receiver:
            receiver.receive_messages(max_wait_time=1)
    with client.get_queue_sender(with_sessions) as sender:
        with raises(ServiceBusError):
            sender.send_messages(ServiceBusMessage("without a session"))


@scenario("4.2 the dead-letter queue of a session entity", "3.2 dead-letter queue by its address")
def the_dead_letters_of_sessions_have_none(place):
    queue, client = place.queue(requires_session=True), place.client()
    send(client, queue, ("a", "1"), ("b", "2"))
    for session in "ab":
        with client.get_queue_receiver(queue, session_id=session) as receiver:
            receiver.dead_letter_message(take(receiver, 1)[0], reason="no")
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        found = take_and_complete(receiver, 2)
    assert {(message.session_id, str(message)) for message in found} == {("a", "1"), ("b", "2")}


@scenario("3.7 defer", "3.8 receive-by-sequence-number", "4.5 sessions keep their order")
def a_session_defers_and_goes_on(place):
    queue, client = place.queue(requires_session=True), place.client()
    send(client, queue, ("a", "1"), ("a", "2"))
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        (first,) = take(receiver, 1)
        receiver.defer_message(first)
        assert str(take_and_complete(receiver, 1)[0]) == "2"
        (deferred,) = receiver.receive_deferred_messages(first.sequence_number)
        assert (str(deferred), deferred.session_id) == ("1", "a")
        receiver.complete_message(deferred)
        nothing_comes(receiver)


@scenario("3.7 abandon", "4.5 sessions keep their order")
async def an_abandoned_message_is_its_sessions_next(place):
    queue = place.queue(requires_session=True)
    send(place.client(), queue, ("a", "1"), ("a", "2"))
    async with place.async_client() as client:
        async with client.get_queue_receiver(queue, session_id="a") as receiver:
            for times in range(2):
                (message,) = await receiver.receive_messages(max_wait_time=20)
                assert (str(message), message.delivery_count) == ("1", times)
                await receiver.abandon_message(message)
            found = []
            while len(found) < 2:
                for message in await receiver.receive_messages(max_wait_time=20):
                    found.append(str(message))
                    await receiver.complete_message(message)
            assert found == ["1", "2"]
