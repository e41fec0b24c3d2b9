// What carries AMQP (plain TCP, TLS, WebSocket), who is let in, and what a busy server does.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { ServiceBusClient } from "@azure/service-bus";
import WebSocket from "ws";
import { AMQP, CONNECTION, HTTP, KEY, KEY_NAME, scenario } from "./suite.mjs";

const port = (address) => address.split(":").at(-1);
// Without UseDevelopmentEmulator the client speaks TLS.
const SECURE = CONNECTION.replace("UseDevelopmentEmulator=true;", "");
const impatient = { retryOptions: { maxRetries: 0, timeoutInMs: 10_000 } };

async function thereAndBack(client, queue) {
  const sender = client.createSender(queue);
  await sender.sendMessages([{ body: "small" }, { body: Buffer.alloc(200_000, 1) }]);
  const receiver = client.createReceiver(queue);
  const found = [];
  while (found.length < 2) {
    const messages = await receiver.receiveMessages(2 - found.length, { maxWaitTimeInMs: 20_000 });
    assert(messages.length > 0);
    for (const message of messages) {
      found.push(message.body.length);
      await receiver.completeMessage(message);
    }
  }
  assert.deepEqual(found, [5, 200_000]);
}

async function using(client, use) {
  try {
    await use(client);
  } finally {
    await client.close();
  }
}

scenario("messages travel plainly", ["3.1 plain TCP with UseDevelopmentEmulator"], async (place) => {
  await thereAndBack(place.client(), await place.queue());
});

scenario("messages travel over TLS", ["3.1 TLS"], async (place) => {
  const queue = await place.queue();
  await using(new ServiceBusClient(SECURE), (client) => thereAndBack(client, queue));
});

scenario("messages travel over WebSocket", ["3.1 WebSocket"], async (place) => {
  const queue = await place.queue();
  const connection = SECURE.replace(`:${port(AMQP)};`, `:${port(HTTP)};`);
  const options = { webSocketOptions: { webSocket: WebSocket } };
  await using(new ServiceBusClient(connection, options), (client) => thereAndBack(client, queue));
});

const refused = (error) => {
  assert.equal(error.code, "UnauthorizedAccess", `${error.code}: ${error.message}`);
  return true;
};

scenario("a token for one queue opens that queue alone", ["3.3 a SAS token is taken", "3.3 an expired token is refused"], async (place) => {
  const [mine, other] = [await place.queue(), await place.queue()];
  const withToken = (seconds) => {
    const resource = encodeURIComponent(`sb://localhost/${mine}`);
    const expiry = Math.floor(Date.now() / 1000) + seconds;
    const signature = encodeURIComponent(createHmac("sha256", KEY).update(`${resource}\n${expiry}`).digest("base64"));
    const token = `SharedAccessSignature sr=${resource}&sig=${signature}&se=${expiry}&skn=${KEY_NAME}`;
    return `Endpoint=sb://localhost:${port(AMQP)};SharedAccessSignature=${token};UseDevelopmentEmulator=true;`;
  };
  await using(new ServiceBusClient(withToken(600), impatient), async (client) => {
    await thereAndBack(client, mine);
    await assert.rejects(client.createSender(other).sendMessages({ body: "x" }), refused);
  });
  await using(new ServiceBusClient(withToken(-1), impatient), async (client) => {
    await assert.rejects(client.createSender(mine).sendMessages({ body: "x" }), refused);
  });
});

scenario("a wrong key is refused", ["3.3 a wrong key is refused"], async (place) => {
  const queue = await place.queue();
  for (const wrong of [CONNECTION.replace(KEY, "another"), CONNECTION.replace(KEY_NAME, "another")]) {
    await using(new ServiceBusClient(wrong, impatient), async (client) => {
      await assert.rejects(client.createSender(queue).sendMessages({ body: "x" }), refused);
    });
  }
  await thereAndBack(place.client(), queue);
});

scenario("a busy server is tried again", ["4.8 server-busy is retried"], async (place) => {
  const queue = await place.queue();
  const sender = place.client(impatient).createSender(queue);
  // Its link stands before the service is busy.
  await sender.createMessageBatch();
  await place.serverBusy(queue, 3);
  await assert.rejects(sender.sendMessages({ body: "refused" }), (error) => {
    assert.equal(error.code, "ServiceBusy", `${error.code}: ${error.message}`);
    return true;
  });
  const patient = place.client({ retryOptions: { maxRetries: 10, retryDelayInMs: 1000 } });
  await patient.createSender(queue).sendMessages({ body: "kept at it" });
  const receiver = place.client().createReceiver(queue, { receiveMode: "receiveAndDelete" });
  const messages = await receiver.receiveMessages(2, { maxWaitTimeInMs: 5_000 });
  assert.deepEqual(messages.map((message) => message.body), ["kept at it"]);
});
