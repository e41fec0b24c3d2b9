"""Plays another bus with Microsoft's SDK: `peer.py CONNECTION send` sends what others send, `peer.py CONNECTION read`
prints what we have sent, a line of JSON for each message; `unreadable` sends what no strict reader of AMQP can read, and
`dead` prints why a message was dead-lettered; `vectors` prints what others send as it stands on the wire."""

import json
import sys

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from cloudevents.core.bindings.amqp import AMQPMessage, from_amqp_event

from dialects import CLR_NAME, all_of_them, order, vectors

# What is sent from here, under its readers' name.
SHIPPED = "Acme.Ordering.OrderShippedEto"


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def read_by_abp(message, known):
    """ABP's Azure event bus: the Subject, exactly, and the body as System.Text.Json reads it."""
    return json.loads(str(message)) if message.subject in known else None


def read_by_aspnetzero(message, known):
    """CommunityAbp.AspNetZero.DistributedEventBus: the event's name, else the CLR type, and the body."""
    properties = {text(name): text(value) for name, value in (message.application_properties or {}).items()}
    names = [properties.get("EventName") or message.subject, properties.get("ClrType")]
    return json.loads(str(message)) if any(name in known for name in names) else None


def read_by_cloud_events(message):
    properties = {text(name): text(value) for name, value in (message.application_properties or {}).items()}
    event = from_amqp_event(AMQPMessage({"content-type": message.content_type}, properties, b"".join(message.body)))
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    return {"attributes": attributes, "data": event.get_data()}


def main(connection, what):
    if what == "vectors":
        print(json.dumps(list(vectors()), indent=1))
        return
    with ServiceBusClient.from_connection_string(connection) as client:
        if what == "send":
            with client.get_topic_sender("events") as sender:
                for _name, message in all_of_them():
                    sender.send_messages(message)
            return
        if what == "unreadable":
            # A property is of a simple type (AMQP 1.0, part 3, 3.2.5).
            with client.get_topic_sender("events") as sender:
                sender.send_messages(ServiceBusMessage(order(1), subject=CLR_NAME, application_properties={"list": ["x"]}))
                sender.send_messages(ServiceBusMessage(order(2), subject=CLR_NAME))
            return
        if what == "dead":
            with client.get_subscription_receiver("events", "billing", sub_queue="deadletter", max_wait_time=5) as receiver:
                for message in receiver.receive_messages(max_message_count=1, max_wait_time=60):
                    print(message.dead_letter_reason, message.dead_letter_error_description, str(message), sep="\n")
            return
        with client.get_subscription_receiver("events", "others", max_wait_time=5) as receiver:
            for message in receiver:
                properties = {text(name): str(text(value)) for name, value in (message.application_properties or {}).items()}
                read = {
                    "subject": message.subject,
                    "message_id": message.message_id,
                    "correlation_id": message.correlation_id,
                    "session_id": message.session_id,
                    "content_type": message.content_type,
                    "time_to_live": message.time_to_live and message.time_to_live.total_seconds(),
                    "body": str(message),
                    "properties": properties,
                    "by_abp": read_by_abp(message, {SHIPPED}),
                    "by_aspnetzero": read_by_aspnetzero(message, {SHIPPED}),
                    "by_cloud_events": read_by_cloud_events(message),
                }
                print(json.dumps(read), flush=True)
                receiver.complete_message(message)


main(*sys.argv[1:])
