"""Locks and what becomes of a locked message: complete, abandon, defer, dead-letter, and what comes too late."""

import datetime

from azure.servicebus import ServiceBusMessage, ServiceBusMessageState, ServiceBusSubQueue
from azure.servicebus.exceptions import MessageAlreadySettled, MessageLockLostError, ServiceBusError

from suite import eventually, raises, scenario
from test_messages import nothing_comes, take, take_and_complete

SECOND = datetime.timedelta(seconds=1)


def counts(place, queue):
    found = place.admin.get_queue_runtime_properties(queue)
    return found.active_message_count, found.dead_letter_message_count


@scenario("3.7 complete")
def a_completed_message_is_gone(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("x"))
        (message,) = take(receiver, 1)
        receiver.complete_message(message)
        with raises(MessageAlreadySettled):
            receiver.complete_message(message)
        nothing_comes(receiver)
    assert counts(place, queue) == (0, 0)


@scenario("3.7 abandon", "3.6 delivery count from zero on")
def an_abandoned_message_comes_again_at_once(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("first"), ServiceBusMessage("second")])
        for times in range(3):
            (message,) = take(receiver, 1)
            assert (str(message), message.delivery_count) == ("first", times)
            receiver.abandon_message(message)
        assert [str(message) for message in take_and_complete(receiver, 2)] == ["first", "second"]


@scenario("4.1 max delivery count", "3.2 dead-letter queue by its address")
def a_message_that_fails_too_often_is_dead_lettered(place):
    queue, client = place.queue(max_delivery_count=3), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("poison", application_properties={"kept": 1}))
        for _ in range(3):
            receiver.abandon_message(take(receiver, 1)[0])
        nothing_comes(receiver)
    assert counts(place, queue) == (0, 1)
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (message,) = take_and_complete(receiver, 1)
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        assert message.dead_letter_error_description
        assert message.application_properties[b"kept"] == 1
    assert counts(place, queue) == (0, 0)


@scenario("3.7 dead-letter with reason and description")
def a_message_is_dead_lettered_with_its_reason(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("with"), ServiceBusMessage("without")])
        first, second = take(receiver, 2)
        receiver.dead_letter_message(first, reason="a reason", error_description="a description")
        receiver.dead_letter_message(second)
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        first, second = take_and_complete(receiver, 2)
    assert (str(first), first.dead_letter_reason, first.dead_letter_error_description) == (
        "with",
        "a reason",
        "a description",
    )
    assert (str(second), second.dead_letter_reason) == ("without", None)


@scenario("3.7 defer", "3.8 receive-by-sequence-number")
def a_deferred_message_is_found_by_its_number_alone(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(3)])
        messages = take(receiver, 3)
        for message in messages:
            receiver.defer_message(message)
        nothing_comes(receiver)
        assert receiver.peek_messages(sequence_number=1)[0].state == ServiceBusMessageState.DEFERRED
        numbers = [message.sequence_number for message in messages]
        deferred = receiver.receive_deferred_messages(numbers)
        assert [str(message) for message in deferred] == ["0", "1", "2"]
        receiver.complete_message(deferred[0])
        receiver.dead_letter_message(deferred[1], reason="deferred too long")
        receiver.abandon_message(deferred[2])
        (again,) = receiver.receive_deferred_messages(numbers[2])
        receiver.complete_message(again)
        with raises(ServiceBusError):
            receiver.receive_deferred_messages(numbers[0])
    assert counts(place, queue) == (0, 1)


@scenario("4.1 a lock expires", "3.7 settling after the lock is gone", "3.6 delivery count from zero on")
def a_message_whose_lock_ran_out_comes_again(place):
    queue, client = place.queue(lock_duration=SECOND), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("x"))
        (late,) = take(receiver, 1)
        with client.get_queue_receiver(queue) as other:
            (again,) = take(other, 1)
            assert again.delivery_count == 1
            with raises(MessageLockLostError):
                receiver.complete_message(late)
            other.complete_message(again)
    assert counts(place, queue) == (0, 0)


@scenario("3.8 renew-lock", "4.1 a renewed lock lasts")
def a_renewed_lock_lasts(place):
    queue, client = place.queue(lock_duration=3 * SECOND), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("x"))
        (message,) = take(receiver, 1)
        first = message.locked_until_utc
        with client.get_queue_receiver(queue) as other:
            for _ in range(4):
                # Longer than the lock in all, shorter each time.
                assert not other.receive_messages(max_wait_time=1)
                assert receiver.renew_message_lock(message) > first
        receiver.complete_message(message)
    assert counts(place, queue) == (0, 0)


@scenario("3.8 renew-lock", "3.7 settling after the lock is gone")
def a_lost_lock_is_not_renewed(place):
    queue, client = place.queue(lock_duration=SECOND), place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("x"))
        (message,) = take(receiver, 1)
        with client.get_queue_receiver(queue) as other:
            take_and_complete(other, 1)
        with raises(MessageLockLostError):
            receiver.renew_message_lock(message)


@scenario("4.1 a lock expires")
def one_message_is_one_receivers_at_a_time(place):
    queue, client = place.queue(), place.client()
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(n)) for n in range(40)])
    with client.get_queue_receiver(queue) as first, client.get_queue_receiver(queue) as second:
        here, there = take(first, 20), take(second, 20)
        numbers = sorted(message.sequence_number for message in here + there)
        assert numbers == list(range(1, 41))
        nothing_comes(first)
        for receiver, messages in ((first, here), (second, there)):
            for message in messages:
                receiver.complete_message(message)
    eventually(lambda: counts(place, queue) == (0, 0))


@scenario("4.3 duplicate detection", "4.3 its window ends")
def duplicates_are_dropped_within_their_window(place):
    queue = place.queue(
        requires_duplicate_detection=True, duplicate_detection_history_time_window=datetime.timedelta(seconds=20)
    )
    client = place.client()
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("first", message_id="1"))
        sender.send_messages(ServiceBusMessage("again", message_id="1"))
        sender.send_messages([ServiceBusMessage("other", message_id="2"), ServiceBusMessage("2", message_id="2")])
        assert [str(message) for message in take_and_complete(receiver, 2)] == ["first", "other"]
        nothing_comes(receiver)

        def is_taken_again():
            sender.send_messages(ServiceBusMessage("late", message_id="1"))
            return receiver.receive_messages(max_wait_time=1)

        (late,) = eventually(is_taken_again, 40)
        assert str(late) == "late"


@scenario("3.8 schedule-message", "3.8 cancel-scheduled-message", "4.4 scheduled by annotation")
def scheduled_messages_wait_and_can_be_cancelled(place):
    queue, client = place.queue(), place.client(retry_total=0)
    soon = datetime.datetime.now(datetime.timezone.utc) + 8 * SECOND
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        numbers = sender.schedule_messages([ServiceBusMessage(str(n)) for n in range(3)], soon)
        by_annotation = ServiceBusMessage("by annotation", scheduled_enqueue_time_utc=soon)
        sender.send_messages(by_annotation)
        peeked = receiver.peek_messages(max_message_count=10)
        assert len(peeked) == 4
        assert {message.state for message in peeked} == {ServiceBusMessageState.SCHEDULED}
        sender.cancel_scheduled_messages(numbers[1])
        with raises(ServiceBusError):
            sender.cancel_scheduled_messages(numbers[1])
        nothing_comes(receiver)
        found = take_and_complete(receiver, 3)
    assert sorted(str(message) for message in found) == ["0", "2", "by annotation"]
    assert all(message.enqueued_time_utc >= soon - SECOND for message in found)
    assert not {message.sequence_number for message in found} & set(numbers)
    assert datetime.datetime.now(datetime.timezone.utc) >= soon
