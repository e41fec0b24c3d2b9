"""The management API through `ServiceBusAdministrationClient`, sync and async."""

import datetime

from azure.core.exceptions import (
    ClientAuthenticationError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncAdministrationClient
from azure.servicebus.management import (
    EntityStatus,
    MessagingSku,
    ServiceBusAdministrationClient,
    SqlRuleFilter,
)

from suite import ADMIN_CONNECTION, CERTIFICATE, KEY_NAME, eventually, raises, scenario

SECOND = datetime.timedelta(seconds=1)
FOREVER = datetime.timedelta(days=10675199, hours=2, minutes=48, seconds=5, microseconds=477581)


def just_now(time):
    return abs((datetime.datetime.now(datetime.timezone.utc) - time).total_seconds()) < 60


@scenario("6.1 queues: create, get, list, update, delete", "6.1 https that the SDK trusts")
def queues_live_and_end(place):
    name = place.name()
    created = place.admin.create_queue(
        name,
        lock_duration=20 * SECOND,
        max_delivery_count=7,
        requires_session=True,
        requires_duplicate_detection=True,
        duplicate_detection_history_time_window="PT1M",
        default_message_time_to_live=datetime.timedelta(hours=2),
        dead_lettering_on_message_expiration=True,
        max_size_in_megabytes=2048,
        enable_batched_operations=False,
        user_metadata="<a & \"b\">",
        auto_delete_on_idle=datetime.timedelta(days=1),
        max_message_size_in_kilobytes=512,
    )
    got = place.admin.get_queue(name)
    for queue in (created, got):
        assert queue.name == name
        assert queue.lock_duration == 20 * SECOND
        assert queue.max_delivery_count == 7
        assert queue.requires_session is True
        assert queue.requires_duplicate_detection is True
        assert queue.duplicate_detection_history_time_window == 60 * SECOND
        assert queue.default_message_time_to_live == datetime.timedelta(hours=2)
        assert queue.dead_lettering_on_message_expiration is True
        assert queue.max_size_in_megabytes == 2048
        assert queue.enable_batched_operations is False
        assert queue.user_metadata == "<a & \"b\">"
        assert queue.auto_delete_on_idle == datetime.timedelta(days=1)
        assert queue.max_message_size_in_kilobytes == 512
        assert queue.status == EntityStatus.ACTIVE
        assert queue.availability_status == "Available"
    got.lock_duration = 30 * SECOND
    got.status = EntityStatus.SEND_DISABLED
    place.admin.update_queue(got)
    updated = place.admin.get_queue(name)
    assert updated.lock_duration == 30 * SECOND and updated.status == EntityStatus.SEND_DISABLED
    assert updated.max_delivery_count == 7
    assert name in [queue.name for queue in place.admin.list_queues()]
    place.admin.delete_queue(name)
    assert name not in [queue.name for queue in place.admin.list_queues()]


@scenario("6.1 queues: create, get, list, update, delete")
def a_queue_has_service_buss_defaults(place):
    queue = place.admin.create_queue(place.name())
    assert queue.lock_duration == 60 * SECOND
    assert queue.max_delivery_count == 10
    assert queue.requires_session is False and queue.requires_duplicate_detection is False
    assert queue.duplicate_detection_history_time_window == 600 * SECOND
    assert queue.default_message_time_to_live >= FOREVER - SECOND
    assert queue.auto_delete_on_idle >= FOREVER - SECOND
    assert queue.dead_lettering_on_message_expiration is False
    assert queue.enable_partitioning is False and queue.enable_express is False
    assert queue.forward_to is None and queue.user_metadata is None
    # What was read can be written as it is, whatever the clients make of the longest time.
    place.admin.update_queue(queue)
    again = place.admin.get_queue(queue.name)
    assert again.default_message_time_to_live == queue.default_message_time_to_live


@scenario("6.1 topics: create, get, list, update, delete")
def topics_live_and_end(place):
    name = place.name("topic")
    created = place.admin.create_topic(
        name,
        default_message_time_to_live=datetime.timedelta(minutes=10),
        requires_duplicate_detection=True,
        duplicate_detection_history_time_window=30 * SECOND,
        support_ordering=False,
        user_metadata="topic",
    )
    got = place.admin.get_topic(name)
    for topic in (created, got):
        assert topic.name == name
        assert topic.default_message_time_to_live == datetime.timedelta(minutes=10)
        assert topic.requires_duplicate_detection is True
        assert topic.duplicate_detection_history_time_window == 30 * SECOND
        assert topic.support_ordering is False
        assert topic.user_metadata == "topic"
        assert topic.status == EntityStatus.ACTIVE
    got.default_message_time_to_live = datetime.timedelta(minutes=20)
    place.admin.update_topic(got)
    assert place.admin.get_topic(name).default_message_time_to_live == datetime.timedelta(minutes=20)
    assert name in [topic.name for topic in place.admin.list_topics()]
    place.admin.create_subscription(name, "s")
    place.admin.delete_topic(name)
    with raises(ResourceNotFoundError):
        place.admin.get_topic(name)
    with raises(ResourceNotFoundError):
        place.admin.get_subscription(name, "s")


@scenario("6.1 subscriptions: create, get, list, update, delete")
def subscriptions_live_and_end(place):
    topic = place.topic()
    created = place.admin.create_subscription(
        topic,
        "S1",
        lock_duration=15 * SECOND,
        requires_session=True,
        default_message_time_to_live=60 * SECOND,
        dead_lettering_on_message_expiration=True,
        dead_lettering_on_filter_evaluation_exceptions=False,
        max_delivery_count=3,
        user_metadata="s",
        auto_delete_on_idle=datetime.timedelta(hours=1),
    )
    got = place.admin.get_subscription(topic, "s1")
    for subscription in (created, got):
        assert subscription.lock_duration == 15 * SECOND
        assert subscription.requires_session is True
        assert subscription.default_message_time_to_live == 60 * SECOND
        assert subscription.dead_lettering_on_message_expiration is True
        assert subscription.dead_lettering_on_filter_evaluation_exceptions is False
        assert subscription.max_delivery_count == 3
        assert subscription.user_metadata == "s"
        assert subscription.auto_delete_on_idle == datetime.timedelta(hours=1)
    assert created.name == "S1"
    created.max_delivery_count = 4
    place.admin.update_subscription(topic, created)
    assert place.admin.get_subscription(topic, "S1").max_delivery_count == 4
    place.admin.create_subscription(topic, "S0")
    assert [one.name for one in place.admin.list_subscriptions(topic)] == ["S0", "S1"]
    place.admin.delete_subscription(topic, "S1")
    assert [one.name for one in place.admin.list_subscriptions(topic)] == ["S0"]


@scenario("6.1 runtime counters")
def counters_tell_what_is_there(place):
    queue, topic = place.queue(), place.topic()
    subscription = place.subscription(topic)
    empty = place.admin.get_queue_runtime_properties(queue)
    assert empty.name == queue and just_now(empty.created_at_utc) and just_now(empty.updated_at_utc)
    assert empty.total_message_count == 0 and empty.size_in_bytes == 0
    client = place.client()
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(number)) for number in range(5)])
        sender.schedule_messages([ServiceBusMessage("later"), ServiceBusMessage("later")], later)
    with client.get_queue_receiver(queue) as receiver:
        for message in receiver.receive_messages(max_message_count=1, max_wait_time=20):
            receiver.dead_letter_message(message, reason="r")
    found = place.admin.get_queue_runtime_properties(queue)
    assert found.active_message_count == 4, found.active_message_count
    assert found.dead_letter_message_count == 1
    assert found.scheduled_message_count == 2
    assert found.transfer_message_count == 0 and found.transfer_dead_letter_message_count == 0
    assert found.total_message_count == 7
    assert found.size_in_bytes > 0 and just_now(found.accessed_at_utc)
    assert queue in [one.name for one in place.admin.list_queues_runtime_properties()]
    with client.get_topic_sender(topic) as sender:
        sender.send_messages([ServiceBusMessage("1"), ServiceBusMessage("2")])
        sender.schedule_messages(ServiceBusMessage("later"), later)
    found = place.admin.get_subscription_runtime_properties(topic, subscription)
    assert found.active_message_count == 2 and found.total_message_count == 2
    assert [one.name for one in place.admin.list_subscriptions_runtime_properties(topic)] == [subscription]
    found = place.admin.get_topic_runtime_properties(topic)
    assert found.subscription_count == 1 and found.scheduled_message_count == 1
    assert topic in [one.name for one in place.admin.list_topics_runtime_properties()]


@scenario("6.1 namespace info")
def the_namespace_describes_itself(place):
    namespace = place.admin.get_namespace_properties()
    assert namespace.name == "sbemulatorns"
    assert namespace.messaging_sku == MessagingSku.STANDARD
    assert namespace.created_at_utc <= datetime.datetime.now(datetime.timezone.utc)


@scenario("3.3 a wrong key is refused", "6.1 https that the SDK trusts")
def administration_needs_the_key_and_the_certificate(place):
    wrong = ADMIN_CONNECTION.replace("SAS_KEY_VALUE", "another")
    with ServiceBusAdministrationClient.from_connection_string(wrong, connection_verify=CERTIFICATE) as admin:
        with raises(ClientAuthenticationError, "InvalidSignature"):
            admin.create_queue(place.name())
    wrong = ADMIN_CONNECTION.replace(KEY_NAME, "another")
    with ServiceBusAdministrationClient.from_connection_string(wrong, connection_verify=CERTIFICATE) as admin:
        with raises(ClientAuthenticationError):
            admin.get_namespace_properties()
    with ServiceBusAdministrationClient.from_connection_string(ADMIN_CONNECTION, retry_total=0) as admin:
        with raises(ServiceRequestError, "CERTIFICATE_VERIFY_FAILED"):
            admin.get_namespace_properties()


@scenario(
    "6.1 queues: create, get, list, update, delete",
    "6.1 topics: create, get, list, update, delete",
    "6.1 subscriptions: create, get, list, update, delete",
    "6.1 rules: create, get, list, update, delete",
)
async def the_async_client_does_the_same(place):
    async with AsyncAdministrationClient.from_connection_string(
        ADMIN_CONNECTION, connection_verify=CERTIFICATE
    ) as admin:
        queue, topic = place.name(), place.name("topic")
        await admin.create_queue(queue, max_delivery_count=4)
        properties = await admin.get_queue(queue)
        assert properties.max_delivery_count == 4
        properties.max_delivery_count = 5
        await admin.update_queue(properties)
        assert (await admin.get_queue(queue)).max_delivery_count == 5
        assert queue in [one.name async for one in admin.list_queues()]
        await admin.create_topic(topic)
        await admin.create_subscription(topic, "s")
        await admin.create_rule(topic, "s", "r", filter=SqlRuleFilter("1=1"))
        assert {rule.name async for rule in admin.list_rules(topic, "s")} == {"$Default", "r"}
        await admin.delete_rule(topic, "s", "r")
        assert [one.name async for one in admin.list_subscriptions(topic)] == ["s"]
        assert (await admin.get_subscription_runtime_properties(topic, "s")).total_message_count == 0
        await admin.delete_subscription(topic, "s")
        await admin.delete_topic(topic)
        await admin.delete_queue(queue)
        with raises(ResourceNotFoundError):
            await admin.get_queue(queue)


@scenario("4.7 auto-delete on idle")
def an_idle_queue_goes(place):
    name = place.queue(auto_delete_on_idle=2 * SECOND)
    assert place.admin.get_queue(name).auto_delete_on_idle == 2 * SECOND

    def gone():
        return name not in [queue.name for queue in place.admin.list_queues()]

    assert not gone()
    eventually(gone)


@scenario("5.1 entities of config.json")
def what_the_config_names_is_there(place):
    admin = place.admin
    queue = admin.get_queue("configured.queue")
    assert queue.lock_duration == 15 * SECOND and queue.max_delivery_count == 3
    assert queue.requires_session is True and queue.requires_duplicate_detection is True
    assert queue.dead_lettering_on_message_expiration is True and queue.forward_to is None
    assert queue.default_message_time_to_live == datetime.timedelta(hours=1)
    assert queue.duplicate_detection_history_time_window == 20 * SECOND
    topic = admin.get_topic("configured.topic")
    assert topic.requires_duplicate_detection is True
    assert topic.default_message_time_to_live == datetime.timedelta(minutes=30)
    everything = admin.get_subscription("configured.topic", "all")
    assert everything.forward_to.endswith("/configured.target") and everything.max_delivery_count == 4
    assert [rule.name for rule in admin.list_rules("configured.topic", "all")] == ["$Default"]
    rules = {rule.name: rule for rule in admin.list_rules("configured.topic", "some")}
    assert set(rules) == {"correlation", "sql"}
    assert rules["correlation"].filter.label == "subject1"
    assert rules["correlation"].filter.properties == {"prop1": "value1"}
    assert rules["sql"].filter.sql_expression == "sys.MessageId = '123456'"
    assert rules["sql"].action.sql_expression == "SET sys.To = 'Entity'"
