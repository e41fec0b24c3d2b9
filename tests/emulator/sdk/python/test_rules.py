"""The management API: rules, bounds, pages, versions and forwarding."""

import datetime
import functools

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage
from azure.servicebus.management import (
    ApiVersion,
    CorrelationRuleFilter,
    FalseRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from suite import ADMIN_CONNECTION, CERTIFICATE, HTTP, raises, scenario
from test_admin import just_now


@scenario("6.1 rules: create, get, list, update, delete")
def rules_live_and_end(place):
    topic = place.topic()
    subscription = place.subscription(topic)
    admin = place.admin
    default = admin.get_rule(topic, subscription, "$Default")
    assert isinstance(default.filter, TrueRuleFilter) and default.action is None
    assert just_now(default.created_at_utc)
    admin.create_rule(topic, subscription, "sql", filter=SqlRuleFilter("a > 1"), action=SqlRuleAction("SET b = 2"))
    admin.create_rule(topic, subscription, "none", filter=FalseRuleFilter())
    admin.create_rule(
        topic,
        subscription,
        "correlation",
        filter=CorrelationRuleFilter(
            correlation_id="1", message_id="2", to="3", reply_to="4", label="5", session_id="6",
            reply_to_session_id="7", content_type="8", properties={"k": "v"},
        ),
    )
    sql = admin.get_rule(topic, subscription, "sql")
    assert sql.name == "sql" and sql.filter.sql_expression == "a > 1" and sql.action.sql_expression == "SET b = 2"
    assert isinstance(admin.get_rule(topic, subscription, "none").filter, FalseRuleFilter)
    found = admin.get_rule(topic, subscription, "correlation").filter
    assert isinstance(found, CorrelationRuleFilter)
    assert [
        found.correlation_id, found.message_id, found.to, found.reply_to, found.label, found.session_id,
        found.reply_to_session_id, found.content_type,
    ] == list("12345678")
    assert found.properties == {"k": "v"}
    sql.filter = SqlRuleFilter("a < 1")
    sql.action = None
    admin.update_rule(topic, subscription, sql)
    sql = admin.get_rule(topic, subscription, "sql")
    assert sql.filter.sql_expression == "a < 1" and sql.action is None
    admin.delete_rule(topic, subscription, "$Default")
    assert {rule.name for rule in admin.list_rules(topic, subscription)} == {"correlation", "none", "sql"}
    with raises(ResourceNotFoundError):
        admin.get_rule(topic, subscription, "$Default")


@scenario("6.1 typed values in rules")
def values_in_rules_keep_their_types(place):
    topic = place.topic()
    subscription = place.subscription(topic)
    values = {
        "string": "a < b & c",
        "int": 7,
        "long": 2**40,
        "double": 1.5,
        "true": True,
        "false": False,
        "time": datetime.datetime(2026, 11, 23, 10, 20, 30),
        "span": datetime.timedelta(hours=1, minutes=30),
    }
    made = place.admin.create_rule(topic, subscription, "c", filter=CorrelationRuleFilter(properties=values))
    got = place.admin.get_rule(topic, subscription, "c")
    for rule in (made, got):
        found = dict(rule.filter.properties)
        time = found.pop("time")
        assert time.replace(tzinfo=None) == values["time"], time
        expected = {key: value for key, value in values.items() if key != "time"}
        assert found == expected, found
        assert {key: type(value) for key, value in found.items()} == {
            key: type(value) for key, value in expected.items()
        }
    place.admin.create_rule(
        topic,
        subscription,
        "s",
        filter=SqlRuleFilter("a = @p AND b = @q", {"@p": 5, "@q": "x"}),
        action=SqlRuleAction("SET a = @r", {"@r": 1.25}),
    )
    rule = place.admin.get_rule(topic, subscription, "s")
    assert rule.filter.parameters == {"@p": 5, "@q": "x"}, rule.filter.parameters
    assert rule.action.parameters == {"@r": 1.25}, rule.action.parameters


@scenario("6.1 what exists and what doesn't")
def what_exists_and_what_does_not(place):
    admin, nowhere = place.admin, place.name()
    queue, topic = place.queue(), place.topic()
    subscription = place.subscription(topic)
    for create in (
        lambda: admin.create_queue(queue),
        lambda: admin.create_queue(queue.upper()),
        lambda: admin.create_topic(queue),
        lambda: admin.create_queue(topic),
        lambda: admin.create_subscription(topic, subscription),
        lambda: admin.create_rule(topic, subscription, "$Default"),
    ):
        with raises(ResourceExistsError):
            create()
    for look in (
        lambda: admin.get_queue(nowhere),
        lambda: admin.get_topic(nowhere),
        lambda: admin.get_queue_runtime_properties(nowhere),
        lambda: admin.get_subscription(topic, nowhere),
        lambda: admin.get_subscription(nowhere, subscription),
        lambda: admin.get_rule(topic, subscription, nowhere),
        lambda: admin.create_subscription(nowhere, "s"),
        lambda: admin.create_rule(topic, nowhere, "r"),
        lambda: admin.delete_queue(nowhere),
        lambda: admin.delete_topic(nowhere),
        lambda: admin.delete_subscription(topic, nowhere),
        lambda: admin.delete_rule(topic, subscription, nowhere),
    ):
        with raises(ResourceNotFoundError):
            look()
    gone = admin.get_queue(queue)
    admin.delete_queue(queue)
    with raises(ResourceNotFoundError):
        admin.update_queue(gone)


@scenario("6.1 settings out of bounds", "4.8 limits of names and ids")
def settings_out_of_bounds_are_refused(place):
    admin = place.admin
    topic = place.topic()
    subscription = place.subscription(topic)
    for refused in (
        lambda: admin.create_queue(place.name(), lock_duration=datetime.timedelta(minutes=6)),
        lambda: admin.create_queue(place.name(), max_delivery_count=0),
        lambda: admin.create_queue(place.name(), duplicate_detection_history_time_window=datetime.timedelta(days=8)),
        lambda: admin.create_queue(place.name(), forward_to="nowhere-at-all"),
        lambda: admin.create_queue("x" * 261),
        lambda: admin.create_queue("a?b#c"),
        lambda: admin.create_topic("a b"),
        lambda: admin.create_subscription(topic, "x" * 51),
        lambda: admin.create_rule(topic, subscription, "x" * 51),
        lambda: admin.create_rule(topic, subscription, "r", filter=SqlRuleFilter("a = ")),
        lambda: admin.create_rule(topic, subscription, "r", filter=SqlRuleFilter("a = '" + "x" * 1100 + "'")),
        lambda: admin.create_rule(topic, subscription, "r", action=SqlRuleAction("SELECT 1")),
    ):
        try:
            refused()
        except HttpResponseError as error:
            assert error.status_code == 400, error
        else:
            raise AssertionError("it was taken")
    queue = admin.get_queue(place.queue())
    queue.requires_session = True
    with raises(HttpResponseError, "RequiresSession"):
        admin.update_queue(queue)


@scenario("6.1 paging")
def lists_of_many_come_whole(place):
    topic = place.topic()
    names = [f"s{number:03}" for number in range(130)]
    for name in names:
        place.admin.create_subscription(topic, name)
    assert [one.name for one in place.admin.list_subscriptions(topic)] == names
    small = place.admin.list_subscriptions(topic, start_index=3, max_page_size=7)
    assert [one.name for one in small] == names[3:]


@scenario("6.1 api versions")
def older_versions_are_spoken(place):
    connect = functools.partial(
        ServiceBusAdministrationClient.from_connection_string, ADMIN_CONNECTION, connection_verify=CERTIFICATE
    )
    with connect(api_version=ApiVersion.V2017_04) as old, connect(api_version=ApiVersion.V2021_05) as middle:
        name = place.name()
        with raises(HttpResponseError, "MaxMessageSizeInKilobytes"):
            old.create_queue(name, max_message_size_in_kilobytes=512)
        old.create_queue(name, max_delivery_count=5)
        assert old.get_queue(name).max_message_size_in_kilobytes is None
        assert middle.get_queue(name).max_message_size_in_kilobytes == 256
        topic = place.topic()
        subscription = place.subscription(topic)
        place.admin.create_rule(topic, subscription, "c", filter=CorrelationRuleFilter(label="l"))
        new = place.admin.get_topic_runtime_properties(topic)
        assert new.subscription_count == 1 and middle.get_topic_runtime_properties(topic).subscription_count == 1


@scenario("6.1 forwarding")
def forwarding_is_shown_and_done(place):
    target, dead = place.queue(), place.queue()
    source = place.queue(forward_to=target, forward_dead_lettered_messages_to=dead)
    shown = place.admin.get_queue(source)
    assert shown.forward_to == f"sb://localhost:{HTTP.rpartition(':')[2]}/{target}", shown.forward_to
    assert shown.forward_dead_lettered_messages_to.endswith("/" + dead)
    topic = place.topic()
    place.subscription(topic, forward_to=target)
    client = place.client()
    with client.get_queue_sender(source) as queue_sender, client.get_topic_sender(topic) as topic_sender:
        queue_sender.send_messages(ServiceBusMessage("by queue"))
        topic_sender.send_messages(ServiceBusMessage("by topic"))
    with client.get_queue_receiver(target, receive_mode="receiveanddelete") as receiver:
        found = set()
        while len(found) < 2:
            messages = receiver.receive_messages(max_message_count=2, max_wait_time=20)
            assert messages
            found |= {str(message) for message in messages}
        assert found == {"by queue", "by topic"}
    shown.forward_to = None
    place.admin.update_queue(shown)
    assert place.admin.get_queue(source).forward_to is None


