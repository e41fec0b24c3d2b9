"""What carries AMQP (plain TCP, TLS, WebSocket), who is let in, and what a busy server does."""

import time

from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient
from azure.servicebus.exceptions import ServiceBusAuthenticationError, ServiceBusError, ServiceBusServerBusyError

from suite import AMQP, CERTIFICATE, CONNECTION, HTTP, KEY, KEY_NAME, raises, scenario

# Without UseDevelopmentEmulator the client speaks TLS, and only a custom endpoint keeps the port.
SECURE = CONNECTION.replace("UseDevelopmentEmulator=true;", "")


def at(door, transport):
    return {
        "transport_type": transport,
        "custom_endpoint_address": f"sb://localhost:{door.rpartition(':')[2]}",
        "connection_verify": CERTIFICATE,
    }


def there_and_back(client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage("small"), ServiceBusMessage("x" * 200_000)])
    with client.get_queue_receiver(queue) as receiver:
        found = []
        while len(found) < 2:
            messages = receiver.receive_messages(max_message_count=2, max_wait_time=20)
            assert messages
            for message in messages:
                found.append(len(str(message)))
                receiver.complete_message(message)
        assert found == [5, 200_000]


@scenario("3.1 plain TCP with UseDevelopmentEmulator")
def messages_travel_plainly(place):
    there_and_back(place.client(), place.queue())


@scenario("3.1 TLS")
def messages_travel_over_tls(place):
    with ServiceBusClient.from_connection_string(SECURE, **at(AMQP, TransportType.Amqp)) as client:
        there_and_back(client, place.queue())


@scenario("3.1 TLS")
def another_certificate_is_not_trusted(place):
    options = at(AMQP, TransportType.Amqp) | {"connection_verify": None, "retry_total": 0}
    with ServiceBusClient.from_connection_string(SECURE, **options) as client:
        with raises(ServiceBusError, "CERTIFICATE_VERIFY_FAILED"):
            with client.get_queue_sender(place.queue()):
                pass


@scenario("3.1 WebSocket")
def messages_travel_over_websocket(place):
    with ServiceBusClient.from_connection_string(SECURE, **at(HTTP, TransportType.AmqpOverWebsocket)) as client:
        there_and_back(client, place.queue())


@scenario("3.1 WebSocket")
async def messages_travel_over_websocket_async(place):
    queue = place.queue()
    options = at(HTTP, TransportType.AmqpOverWebsocket)
    async with AsyncServiceBusClient.from_connection_string(SECURE, **options) as client:
        async with client.get_queue_sender(queue) as sender:
            await sender.send_messages(ServiceBusMessage("hi"))
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receiver.receive_messages(max_wait_time=20)
            assert str(message) == "hi"
            await receiver.complete_message(message)


def with_token(token):
    return f"Endpoint=sb://localhost:{AMQP.rpartition(':')[2]};SharedAccessSignature={token};UseDevelopmentEmulator=true;"


@scenario("3.3 a SAS token is taken")
def a_token_for_one_queue_opens_that_queue_alone(place):
    mine, other = place.queue(), place.queue()
    token = generate_sas_token(f"sb://localhost/{mine}", KEY_NAME, KEY, int(time.time()) + 600)
    with ServiceBusClient.from_connection_string(with_token(token), retry_total=0) as client:
        there_and_back(client, mine)
        with raises(ServiceBusAuthenticationError):
            with client.get_queue_sender(other):
                pass


@scenario("3.3 an expired token is refused")
def an_expired_token_is_refused(place):
    queue = place.queue()
    token = generate_sas_token(f"sb://localhost/{queue}", KEY_NAME, KEY, int(time.time()) - 1)
    with ServiceBusClient.from_connection_string(with_token(token), retry_total=0) as client:
        with raises(ServiceBusAuthenticationError):
            with client.get_queue_sender(queue):
                pass


@scenario("3.3 a wrong key is refused")
def a_wrong_key_is_refused(place):
    queue = place.queue()
    for wrong in (CONNECTION.replace(KEY, "another"), CONNECTION.replace(KEY_NAME, "another")):
        with ServiceBusClient.from_connection_string(wrong, retry_total=0) as client:
            with raises(ServiceBusAuthenticationError):
                with client.get_queue_sender(queue):
                    pass
    # Others are unharmed.
    there_and_back(place.client(), queue)


@scenario("4.8 server-busy is retried")
def a_busy_server_is_tried_again(place):
    queue = place.queue()
    with place.client(retry_total=0) as impatient, impatient.get_queue_sender(queue) as sender:
        place.server_busy(queue, 3)
        with raises(ServiceBusServerBusyError):
            sender.send_messages(ServiceBusMessage("refused"))
    with place.client(retry_total=5, retry_backoff_factor=1) as patient, patient.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("kept at it"))
    with place.client().get_queue_receiver(queue, receive_mode="receiveanddelete") as receiver:
        messages = receiver.receive_messages(max_message_count=2, max_wait_time=20)
        assert [str(message) for message in messages] == ["kept at it"]
