"""Topics: what reaches which subscription, and what rules make of it."""

import datetime

from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.management import (
    CorrelationRuleFilter,
    FalseRuleFilter,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from suite import scenario
from test_messages import nothing_comes, take, take_and_complete


def subscription(place, topic, rule_filter, action=None, **settings):
    """A subscription with this rule alone."""
    name = place.subscription(topic, **settings)
    place.admin.create_rule(topic, name, "rule", filter=rule_filter, action=action)
    place.admin.delete_rule(topic, name, "$Default")
    return name


def send(client, topic, *messages):
    with client.get_topic_sender(topic) as sender:
        sender.send_messages(list(messages))


def texts(client, topic, name, count):
    with client.get_subscription_receiver(topic, name) as receiver:
        found = [str(message) for message in take_and_complete(receiver, count)] if count else []
        nothing_comes(receiver)
    return found


@scenario("3.2 subscription by its address", "4.6 true and false filters")
def every_subscription_gets_its_copy(place):
    topic, client = place.topic(), place.client()
    everything, all_of_it = place.subscription(topic), subscription(place, topic, TrueRuleFilter())
    nothing = subscription(place, topic, FalseRuleFilter())
    send(client, topic, *[ServiceBusMessage(str(n)) for n in range(5)])
    for name in (everything, all_of_it):
        assert texts(client, topic, name, 5) == ["0", "1", "2", "3", "4"]
    assert texts(client, topic, nothing, 0) == []


@scenario("4.6 correlation filters")
def correlation_filters_compare_everything_they_name(place):
    topic, client = place.topic(), place.client()
    by_label = subscription(place, topic, CorrelationRuleFilter(label="order-placed"))
    by_both = subscription(
        place, topic, CorrelationRuleFilter(label="order-placed", properties={"tenant": "a", "n": 7})
    )
    by_id = subscription(place, topic, CorrelationRuleFilter(correlation_id="c", content_type="text/plain"))
    send(
        client,
        topic,
        ServiceBusMessage("1", subject="order-placed"),
        ServiceBusMessage("2", subject="order-placed", application_properties={"tenant": "a", "n": 7}),
        ServiceBusMessage("3", subject="Order-Placed", application_properties={"tenant": "a", "n": 7}),
        ServiceBusMessage("4", correlation_id="c", content_type="text/plain"),
        ServiceBusMessage("5", correlation_id="c"),
    )
    assert texts(client, topic, by_label, 2) == ["1", "2"]
    assert texts(client, topic, by_both, 1) == ["2"]
    assert texts(client, topic, by_id, 1) == ["4"]


@scenario("4.6 SQL filters")
def sql_filters_decide(place):
    topic, client = place.topic(), place.client()
    filters = {
        "amount > 10 AND amount <= 100": ["b"],
        "amount + 1 = 6 OR sys.Label = 'special'": ["a", "d"],
        "colour IN ('red', 'green') AND colour LIKE 'r%'": ["a"],
        "colour IS NULL": ["c", "d"],
        "EXISTS(colour) AND NOT colour = 'red'": ["b"],
        "user.colour LIKE '%ee_'": ["b"],
        "sys.MessageId = 'id-c'": ["c"],
        "missing = 1": [],
        "missing = 1 OR amount = 5": ["a"],
        "1 = 1": ["a", "b", "c", "d"],
    }
    names = {text: subscription(place, topic, SqlRuleFilter(text)) for text in filters}
    send(
        client,
        topic,
        ServiceBusMessage("a", application_properties={"amount": 5, "colour": "red"}, message_id="id-a"),
        ServiceBusMessage("b", application_properties={"amount": 50, "colour": "green"}, message_id="id-b"),
        ServiceBusMessage("c", application_properties={"amount": 500}, message_id="id-c"),
        ServiceBusMessage("d", subject="special", message_id="id-d"),
    )
    for text, expected in filters.items():
        with client.get_subscription_receiver(topic, names[text]) as receiver:
            found = [str(message) for message in take_and_complete(receiver, len(expected))] if expected else []
            assert found == expected, f"{text}: {found}"
            assert not receiver.peek_messages(sequence_number=1), text


@scenario("4.6 SQL actions", "4.6 a copy for each rule with an action")
def actions_change_their_copy(place):
    topic, client = place.topic(), place.client()
    name = place.subscription(topic)
    place.admin.delete_rule(topic, name, "$Default")
    place.admin.create_rule(
        topic,
        name,
        "marks",
        filter=TrueRuleFilter(),
        action=SqlRuleAction("SET colour = 'blue'; SET sys.Label = 'marked'; REMOVE secret"),
    )
    place.admin.create_rule(topic, name, "counts", filter=TrueRuleFilter(), action=SqlRuleAction("SET n = n + 1"))
    place.admin.create_rule(topic, name, "plain", filter=TrueRuleFilter())
    send(client, topic, ServiceBusMessage("x", application_properties={"n": 1, "secret": "s", "colour": "red"}))
    with client.get_subscription_receiver(topic, name) as receiver:
        messages = take_and_complete(receiver, 3)
        nothing_comes(receiver)
    copies = {}
    for message in messages:
        properties = {key.decode(): value for key, value in message.application_properties.items()}
        copies[properties.get("RuleName", b"")] = (message.subject, properties)
    assert set(copies) == {b"marks", b"counts", b""}
    subject, properties = copies[b"marks"]
    assert (subject, properties["colour"], "secret" in properties) == ("marked", b"blue", False)
    assert copies[b"counts"][1]["n"] == 2
    assert copies[b""][1]["n"] == 1 and copies[b""][1]["secret"] == b"s"


@scenario("3.2 subscription by its address", "3.7 dead-letter with reason and description")
def a_subscription_has_its_own_dead_letter_queue(place):
    topic, client = place.topic(), place.client()
    first, second = place.subscription(topic), place.subscription(topic)
    send(client, topic, ServiceBusMessage("x"))
    with client.get_subscription_receiver(topic, first) as receiver:
        receiver.dead_letter_message(take(receiver, 1)[0], reason="r")
    dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
    with client.get_subscription_receiver(topic, first, **dead) as receiver:
        assert take_and_complete(receiver, 1)[0].dead_letter_reason == "r"
    assert texts(client, topic, second, 1) == ["x"]


@scenario("4.3 duplicate detection", "4.4 scheduled by annotation")
def a_topic_drops_duplicates_and_schedules(place):
    topic, client = place.topic(requires_duplicate_detection=True), place.client()
    name = place.subscription(topic, requires_session=True)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    with client.get_topic_sender(topic) as sender:
        for _ in range(2):
            sender.send_messages(ServiceBusMessage("now", message_id="1", session_id="s"))
            sender.send_messages(
                ServiceBusMessage("later", message_id="2", session_id="s", scheduled_enqueue_time_utc=soon)
            )
    with client.get_subscription_receiver(topic, name, session_id="s") as receiver:
        assert [str(message) for message in take_and_complete(receiver, 2)] == ["now", "later"]
        nothing_comes(receiver)
    assert datetime.datetime.now(datetime.timezone.utc) >= soon
