"""Messages as other buses send them, by the SDKs that they send with."""

import json
from datetime import datetime, timezone

from azure.servicebus import ServiceBusMessage
from cloudevents.core.bindings.amqp import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

CLR_NAME = "Acme.Ordering.OrderPlacedEto"
CLR_TYPE = f"{CLR_NAME}, Acme.Ordering, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"


def order(number):
    # System.Text.Json's camelCase, not indented; unknown fields are other people's.
    return json.dumps({"orderNumber": number, "tenantId": None, "note": "Grüße"}, separators=(",", ":"), ensure_ascii=False)


def identity(number, hyphens):
    text = f"0192f1c0-a3b4-7c5d-8e9f-{number:012}"
    return text if hyphens else text.replace("-", "")


def cloud_event(number):
    attributes = {
        "specversion": "1.0",
        "id": f"ce-{number}",
        "source": "/shop",
        "type": "order-placed",
        "time": datetime(2026, 11, 1, 12, 0, 0, 500000, timezone.utc),
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, json.loads(order(number)))


def without_id(message):
    # This SDK makes one up where .NET's leaves it out.
    message.message_id = None
    return message


def properties_of(message):
    # A timestamp of AMQP's, which their SDK gives as a number and this one takes as a time.
    def typed(value):
        return datetime.fromtimestamp(value / 1000, timezone.utc) if isinstance(value, int) else value

    return {name: typed(value) for name, value in message.application_properties.items()}


def of_cloud_events(message):
    return without_id(
        ServiceBusMessage(
            message.application_data,
            content_type=message.properties["content-type"],
            application_properties=properties_of(message),
        )
    )


def with_colons(properties):
    return {name.replace("cloudEvents_", "cloudEvents:"): value for name, value in properties.items()}


def all_of_them():
    """By name, in an order; `(copy)` is the same event as the one before."""
    # ABP: Subject and body alone; the id in the two forms that its outbox has.
    yield "abp direct", ServiceBusMessage(order(1), subject=CLR_NAME, message_id=identity(1, False), correlation_id="abp-1")
    yield "abp outbox batch", ServiceBusMessage(order(2), subject=CLR_NAME, message_id=identity(2, True))
    yield "abp outbox batch (copy)", ServiceBusMessage(order(1), subject=CLR_NAME, message_id=identity(1, True))
    # CommunityAbp.AspNetZero.DistributedEventBus: the CLR type beside it, and no id; its later versions name the event.
    yield "aspnetzero", without_id(
        ServiceBusMessage(order(3), subject=CLR_NAME, application_properties={"ClrType": CLR_TYPE})
    )
    yield "aspnetzero named", ServiceBusMessage(
        order(7),
        subject=CLR_NAME,
        content_type="application/json",
        message_id=identity(7, False),
        application_properties={"EventName": CLR_NAME, "ClrType": CLR_TYPE},
    )
    # CloudEvents by their own SDK; the other spelling of its prefix; structured mode.
    binary = to_binary_event(cloud_event(4))
    yield "cloudevents binary", of_cloud_events(binary)
    binary = to_binary_event(cloud_event(5))
    colons = of_cloud_events(binary)
    colons.application_properties = with_colons(colons.application_properties)
    yield "cloudevents binary, colon", colons
    yield "cloudevents structured", of_cloud_events(to_structured_event(cloud_event(6)))


def vectors():
    """Each as encoded AMQP, and once more with what tracing adds."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for name, message in all_of_them():
        yield {"name": name, "amqp": message.message.encode_message().hex()}
        message.application_properties = {**(message.application_properties or {}), "Diagnostic-Id": trace}
        yield {"name": f"{name}, traced", "amqp": message.message.encode_message().hex()}
