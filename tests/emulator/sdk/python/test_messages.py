"""What a message carries, how messages are sent together, and how they are received and peeked."""

import asyncio
import datetime
import threading
import uuid

from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.servicebus.exceptions import MessageSizeExceededError, MessagingEntityNotFoundError, ServiceBusError

from suite import eventually, raises, scenario

SECOND = datetime.timedelta(seconds=1)


def take(receiver, count):
    """So many messages."""
    found = []
    while len(found) < count:
        messages = receiver.receive_messages(max_message_count=count - len(found), max_wait_time=20)
        assert messages, f"only {len(found)} of {count} came"
        found += messages
    return found


def take_and_complete(receiver, count):
    found = take(receiver, count)
    for message in found:
        receiver.complete_message(message)
    return found


def nothing_comes(receiver):
    found = receiver.receive_messages(max_message_count=1, max_wait_time=1)
    assert not found, found


@scenario("3.6 every property type", "3.6 broker properties on delivery")
def every_property_comes_back_as_it_went(place):
    queue, client = place.queue(), place.client()
    now = datetime.datetime(2026, 11, 23, 10, 30, 15, 250_000, tzinfo=datetime.timezone.utc)
    properties = {
        "text": "Grüße 🚀",
        "yes": True,
        "no": False,
        "small": 7,
        "negative": -7,
        "large": 2_000_000_000,
        "float": 2.5,
        "uuid": uuid.uuid4(),
        "time": now,
        # The SDK reads bytes as text.
        "bytes": b"\x00\x7f",
        "empty": "",
        "nothing": None,
    }
    sent = ServiceBusMessage(
        "body",
        application_properties=properties,
        message_id="the id",
        subject="the subject",
        correlation_id="the correlation",
        content_type="text/plain",
        to="the to",
        reply_to="the reply to",
        reply_to_session_id="the reply session",
        partition_key="the partition",
        time_to_live=datetime.timedelta(minutes=5),
    )
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(sent)
        (message,) = take(receiver, 1)
        # Known as long as the message isn't settled.
        assert message.locked_until_utc > message.enqueued_time_utc and message.lock_token is not None
        receiver.complete_message(message)
    found = {
        key.decode() if isinstance(key, bytes) else key: value
        for key, value in message.application_properties.items()
    }
    for name, value in properties.items():
        back = found[name]
        if isinstance(value, (bytes, str)):
            back, value = (one.decode() if isinstance(one, bytes) else one for one in (back, value))
        if name == "time":
            back = back if isinstance(back, datetime.datetime) else datetime.datetime.fromtimestamp(
                back / 1000, datetime.timezone.utc
            )
        assert back == value, f"{name}: {back!r} is not {value!r}"
    assert message.message_id == "the id"
    assert message.subject == "the subject"
    assert message.correlation_id == "the correlation"
    assert message.content_type == "text/plain"
    assert message.to == "the to"
    assert message.reply_to == "the reply to"
    assert message.reply_to_session_id == "the reply session"
    assert message.partition_key == "the partition"
    assert message.time_to_live == datetime.timedelta(minutes=5)
    assert message.sequence_number == 1
    assert message.expires_at_utc == message.enqueued_time_utc + datetime.timedelta(minutes=5)
    assert message.state == ServiceBusMessageState.ACTIVE


@scenario("3.6 broker properties on delivery")
def sequence_numbers_count_up_and_an_id_is_given(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(10)])
        messages = take_and_complete(receiver, 10)
    assert [message.sequence_number for message in messages] == list(range(1, 11))
    assert [str(message) for message in messages] == [str(n) for n in range(10)]
    assert all(message.message_id for message in messages)


@scenario("3.6 empty and large bodies", "3.4 a delivery of many frames")
def bodies_of_every_size_come_back(place):
    queue, client = place.queue(max_message_size_in_kilobytes=1024), place.client()
    bodies = [b"", b"x", bytes(range(256)) * 400, b"y" * 250_000]
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        for body in bodies:
            sender.send_messages(ServiceBusMessage(body))
        found = take_and_complete(receiver, len(bodies))
    assert [b"".join(message.body) for message in found] == bodies


@scenario("3.6 empty and large bodies")
def value_and_sequence_bodies_come_back(place):
    queue, client = place.queue(), place.client()
    value = {"a": [1, 2, {"b": None}], "c": "d"}
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(AmqpAnnotatedMessage(value_body=value))
        sender.send_messages(AmqpAnnotatedMessage(sequence_body=[[1, "two"], [3.0]]))
        sender.send_messages(AmqpAnnotatedMessage(data_body=[b"one", b"two"]))
        first, second, third = take_and_complete(receiver, 3)
    assert first.body_type == AmqpMessageBodyType.VALUE
    assert {key.decode(): value for key, value in first.body.items()}["c"] in (b"d", "d")
    assert second.body_type == AmqpMessageBodyType.SEQUENCE
    assert [list(part) for part in second.body] == [[1, b"two"], [3.0]]
    assert third.body_type == AmqpMessageBodyType.DATA
    assert list(third.body) == [b"one", b"two"]


@scenario("3.4 a message above the limit is refused")
def a_message_above_the_limit_is_refused_and_the_link_goes_on(place):
    queue, client = place.queue(), place.client(retry_total=0)
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        with raises(MessageSizeExceededError):
            sender.send_messages(ServiceBusMessage(b"x" * 2_000_000))
        with raises(ServiceBusError):
            sender.send_messages(ServiceBusMessage(b"x" * 300_000))
        sender.send_messages(ServiceBusMessage("fits"))
        assert str(take_and_complete(receiver, 1)[0]) == "fits"


@scenario("3.6 batches")
def a_thousand_messages_travel_in_batches(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        batch = sender.create_message_batch()
        for n in range(1000):
            batch.add_message(ServiceBusMessage(str(n), application_properties={"n": n}))
        sender.send_messages(batch)
        found = []
        while len(found) < 1000:
            messages = receiver.receive_messages(max_message_count=200, max_wait_time=20)
            assert messages
            for message in messages:
                receiver.complete_message(message)
            found += messages
    assert [int(str(message)) for message in found] == list(range(1000))


@scenario("3.6 batches", "3.4 a message above the limit is refused")
def a_batch_is_full_at_its_limit(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch(max_size_in_bytes=10_000)
        with raises(MessageSizeExceededError):
            for _ in range(100):
                batch.add_message(ServiceBusMessage(b"x" * 1000))
        sender.send_messages(batch)
        count = len(batch)
    with client.get_queue_receiver(queue) as receiver:
        take_and_complete(receiver, count)
        nothing_comes(receiver)


@scenario("3.4 receive and delete")
def receive_and_delete_deletes(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(5)])
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
        messages = take(receiver, 5)
        assert messages[0].lock_token is None
        with raises(ValueError):
            receiver.complete_message(messages[0])
    with client.get_queue_receiver(queue) as receiver:
        nothing_comes(receiver)
    assert place.admin.get_queue_runtime_properties(queue).active_message_count == 0


@scenario("3.4 prefetched messages are released unspoilt", "3.6 delivery count from zero on")
def what_was_prefetched_and_not_taken_is_not_spoilt(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(20)])
    with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
        receiver.complete_message(take(receiver, 1)[0])
    with client.get_queue_receiver(queue) as receiver:
        found = take_and_complete(receiver, 19)
    assert [message.delivery_count for message in found] == [0] * 19
    assert [str(message) for message in found] == [str(n) for n in range(1, 20)]


@scenario("3.8 peek-message")
def peeking_takes_nothing(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        assert receiver.peek_messages() == []
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(10)])
        first = receiver.peek_messages(max_message_count=4)
        assert [str(message) for message in first] == ["0", "1", "2", "3"]
        assert first[0].sequence_number == 1
        rest = receiver.peek_messages(max_message_count=100, sequence_number=5)
        assert [str(message) for message in rest] == ["4", "5", "6", "7", "8", "9"]
        take_and_complete(receiver, 10)
        assert receiver.peek_messages(sequence_number=1) == []


@scenario("3.4 a missing entity is refused at attach")
def a_missing_entity_is_named(place):
    client = place.client(retry_total=0)
    with raises(MessagingEntityNotFoundError, "nowhere"):
        with client.get_queue_sender("nowhere") as sender:
            sender.send_messages(ServiceBusMessage("x"))
    with raises(MessagingEntityNotFoundError, "nowhere"):
        with client.get_queue_receiver("nowhere") as receiver:
            receiver.receive_messages(max_wait_time=1)


@scenario("3.1 fifty connections at once")
def fifty_connections_send_and_receive_side_by_side(place):
    queue = place.queue()
    errors, lock, found = [], threading.Lock(), []

    def one(number):
        try:
            client = place.client()
            with client.get_queue_sender(queue) as sender:
                sender.send_messages(ServiceBusMessage(str(number)))
            with client.get_queue_receiver(queue) as receiver:
                (message,) = take_and_complete(receiver, 1)
                with lock:
                    found.append(int(str(message)))
        except Exception as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert sorted(found) == list(range(50))


@scenario("3.7 complete", "3.6 batches")
async def the_async_client_sends_and_completes(place):
    queue = place.queue()
    async with place.async_client() as client:
        async with client.get_queue_sender(queue) as sender:
            await sender.send_messages([ServiceBusMessage(str(n)) for n in range(50)])
        async with client.get_queue_receiver(queue, prefetch_count=10) as receiver:
            found = []
            async for message in receiver:
                found.append(int(str(message)))
                await receiver.complete_message(message)
                if len(found) == 50:
                    break
        assert found == list(range(50))
    eventually(lambda: place.admin.get_queue_runtime_properties(queue).active_message_count == 0)


@scenario("3.2 dead-letter queue by its address", "3.7 dead-letter with reason and description")
async def the_async_client_reads_the_dead_letter_queue(place):
    queue = place.queue()
    async with place.async_client() as client:
        async with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            await sender.send_messages(ServiceBusMessage("bad"))
            (message,) = await receiver.receive_messages(max_wait_time=20)
            await receiver.dead_letter_message(message, reason="why", error_description="because")
        dead = client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
        async with dead as receiver:
            (message,) = await receiver.receive_messages(max_wait_time=20)
            assert message.dead_letter_reason == "why"
            assert message.dead_letter_error_description == "because"
            assert message.dead_letter_source in (None, queue)
            await receiver.complete_message(message)
    await asyncio.sleep(0)


@scenario("4.7 time to live")
def messages_expire_silently_without_dead_lettering(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("brief", time_to_live=SECOND), ServiceBusMessage("lasting")])
        eventually(lambda: len(receiver.peek_messages(max_message_count=2, sequence_number=1)) == 1)
        assert str(take_and_complete(receiver, 1)[0]) == "lasting"
        nothing_comes(receiver)
    assert place.admin.get_queue_runtime_properties(queue).dead_letter_message_count == 0


@scenario("4.7 time to live", "4.2 time to live ends in the dead-letter queue")
def a_default_time_to_live_is_the_ceiling(place):
    queue = place.queue(default_message_time_to_live=SECOND, dead_lettering_on_message_expiration=True)
    client = place.client()
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("x", time_to_live=datetime.timedelta(hours=1)))
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (message,) = take_and_complete(receiver, 1)
        assert message.dead_letter_reason == "TTLExpiredException"
