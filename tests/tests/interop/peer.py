"""Plays another bus with Microsoft's SDK: `peer.py CONNECTION send` sends what others send, `peer.py CONNECTION read`
prints what we have sent, a line of JSON for each message; `unreadable` sends what no strict reader of AMQP can read, and
`dead` prints why a message was dead-lettered."""

import json
import sys

from azure.servicebus import ServiceBusClient, ServiceBusMessage

CLR_NAME = "Acme.Ordering.OrderPlacedEto"


def order(number):
    # System.Text.Json's camelCase, not indented; unknown fields are other people's.
    return json.dumps({"orderNumber": number, "tenantId": None, "note": "Grüße"}, separators=(",", ":"), ensure_ascii=False)


def sent_by_others():
    # ABP: Subject and body alone; the id in the two forms that its outbox has, here for one event and for two.
    yield ServiceBusMessage(order(1), subject=CLR_NAME, message_id="0192f1c0a3b47c5d8e9f000000000001")
    yield ServiceBusMessage(order(2), subject=CLR_NAME, message_id="0192f1c0-a3b4-7c5d-8e9f-000000000002")
    yield ServiceBusMessage(order(1), subject=CLR_NAME, message_id="0192f1c0-a3b4-7c5d-8e9f-000000000001")
    # CommunityAbp.AspNetZero.DistributedEventBus: the CLR type beside it, and no id.
    clr_type = f"{CLR_NAME}, Acme.Ordering, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"
    yield ServiceBusMessage(order(3), subject=CLR_NAME, application_properties={"ClrType": clr_type})
    # CloudEvents, binary mode, in both spellings; the subject is no part of it.
    for number, prefix in ((4, "cloudEvents:"), (5, "cloudEvents_")):
        attributes = {"specversion": "1.0", "id": f"ce-{number}", "source": "/shop", "type": "order-placed"}
        yield ServiceBusMessage(
            order(number),
            content_type="application/json",
            application_properties={f"{prefix}{name}": value for name, value in attributes.items()},
        )
    # CloudEvents, structured mode.
    document = {
        "specversion": "1.0",
        "id": "ce-6",
        "source": "/shop",
        "type": "order-placed",
        "datacontenttype": "application/json",
        "data": json.loads(order(6)),
    }
    yield ServiceBusMessage(json.dumps(document), content_type="application/cloudevents+json; charset=utf-8")


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def main(connection, what):
    with ServiceBusClient.from_connection_string(connection) as client:
        if what == "send":
            with client.get_topic_sender("events") as sender:
                for message in sent_by_others():
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
                }
                print(json.dumps(read), flush=True)
                receiver.complete_message(message)


main(*sys.argv[1:])
