// What a message carries, how it is settled, and what comes too late.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { eventually, scenario } from "./suite.mjs";

const WAIT = { maxWaitTimeInMs: 20_000 };
const impatient = { retryOptions: { maxRetries: 0, timeoutInMs: 10_000 } };

export async function take(receiver, count) {
  const found = [];
  while (found.length < count) {
    const messages = await receiver.receiveMessages(count - found.length, WAIT);
    assert(messages.length > 0, `only ${found.length} of ${count} came`);
    found.push(...messages);
  }
  return found;
}

export async function takeAndComplete(receiver, count) {
  const found = await take(receiver, count);
  for (const message of found) await receiver.completeMessage(message);
  return found;
}

export async function nothingComes(receiver) {
  assert.deepEqual(await receiver.receiveMessages(1, { maxWaitTimeInMs: 1000 }), []);
}

export const bodies = (messages) => messages.map((message) => message.body);

async function on(place, settings = {}, options = {}) {
  const queue = await place.queue(settings);
  const client = place.client(options);
  return { queue, client, sender: client.createSender(queue) };
}

scenario("every property comes back as it went", ["3.6 every property type", "3.6 broker properties on delivery"], async (place) => {
  const { queue, client, sender } = await on(place);
  const applicationProperties = {
    text: "Grüße 🚀", yes: true, no: false, int: 7, negative: -7, large: 2 ** 40, float: 2.5, time: new Date(1_700_000_000_000), none: null,
  };
  const sent = {
    body: { deep: [1, "two", null] },
    applicationProperties,
    messageId: "the id",
    subject: "the subject",
    correlationId: "the correlation",
    contentType: "application/json",
    to: "the to",
    replyTo: "the reply to",
    replyToSessionId: "the reply session",
    partitionKey: "the partition",
    timeToLive: 300_000,
  };
  await sender.sendMessages(sent);
  const receiver = client.createReceiver(queue);
  const [message] = await takeAndComplete(receiver, 1);
  for (const [key, value] of Object.entries(sent)) {
    // The SDK reckons the time to live from when it sent.
    if (!["applicationProperties", "timeToLive"].includes(key)) assert.deepEqual(message[key], value, key);
  }
  for (const [key, value] of Object.entries(applicationProperties)) {
    assert.equal(Number(message.applicationProperties[key]) || String(message.applicationProperties[key]), Number(value) || String(value), key);
  }
  assert.equal(message.sequenceNumber.toNumber(), 1);
  assert.equal(message.deliveryCount, 0);
  assert.equal(message.state, "active");
  assert.equal(message.expiresAtUtc - message.enqueuedTimeUtc, 300_000);
  assert(message.lockedUntilUtc > message.enqueuedTimeUtc);
});

scenario("bodies of every size and kind come back", ["3.6 empty and large bodies", "3.4 a delivery of many frames"], async (place) => {
  const { queue, client, sender } = await on(place);
  const sent = [Buffer.alloc(0), Buffer.from("x"), Buffer.alloc(240_000, 7)];
  for (const body of sent) await sender.sendMessages({ body });
  await sender.sendMessages({ bodyType: "value", body: { a: [1, 2] } });
  await sender.sendMessages({ bodyType: "sequence", body: [1, "two"] });
  const found = bodies(await takeAndComplete(client.createReceiver(queue), 5));
  for (const [n, body] of sent.entries()) assert(Buffer.from(found[n]).equals(body), `body ${n}`);
  assert.deepEqual(found.slice(3), [{ a: [1, 2] }, [1, "two"]]);
});

scenario("a message above the limit is refused", ["3.4 a message above the limit is refused"], async (place) => {
  const { queue, client, sender } = await on(place, {}, impatient);
  await assert.rejects(sender.sendMessages({ body: Buffer.alloc(300_000) }), { code: "MessageSizeExceeded" });
  await sender.sendMessages({ body: "fits" });
  assert.deepEqual(bodies(await takeAndComplete(client.createReceiver(queue), 1)), ["fits"]);
});

scenario("a thousand messages travel in batches", ["3.6 batches"], async (place) => {
  const { queue, client, sender } = await on(place);
  const batch = await sender.createMessageBatch();
  for (let n = 0; n < 1000; n++) assert(batch.tryAddMessage({ body: n }));
  await sender.sendMessages(batch);
  const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
  assert.deepEqual(bodies(await take(receiver, 1000)), Array.from({ length: 1000 }, (_, n) => n));
});

scenario("receive and delete deletes", ["3.4 receive and delete"], async (place) => {
  const { queue, client, sender } = await on(place);
  await sender.sendMessages([{ body: 1 }, { body: 2 }]);
  await take(client.createReceiver(queue, { receiveMode: "receiveAndDelete" }), 2);
  await nothingComes(client.createReceiver(queue));
});

scenario("an abandoned message comes again with what was changed", ["3.7 abandon", "3.7 properties to modify", "3.6 delivery count from zero on"], async (place) => {
  const { queue, client, sender } = await on(place);
  await sender.sendMessages({ body: "x", applicationProperties: { kept: 1 } });
  const receiver = client.createReceiver(queue);
  const [first] = await take(receiver, 1);
  assert.equal(first.deliveryCount, 0);
  await receiver.abandonMessage(first, { seen: "once" });
  const [again] = await takeAndComplete(receiver, 1);
  assert.equal(again.deliveryCount, 1);
  assert.deepEqual({ ...again.applicationProperties }, { kept: 1, seen: "once" });
  await nothingComes(receiver);
});

scenario("a deferred message is found by its number with what was changed", ["3.7 defer", "3.7 properties to modify", "3.8 receive-by-sequence-number"], async (place) => {
  const { queue, client, sender } = await on(place);
  await sender.sendMessages([{ body: "x" }, { body: "y" }]);
  const receiver = client.createReceiver(queue);
  const [first] = await take(receiver, 1);
  await receiver.deferMessage(first, { why: "later" });
  assert.deepEqual(bodies(await takeAndComplete(receiver, 1)), ["y"]);
  const [deferred] = await receiver.receiveDeferredMessages(first.sequenceNumber);
  assert.equal(deferred.applicationProperties.why, "later");
  assert.equal(deferred.state, "deferred");
  await receiver.completeMessage(deferred);
  await nothingComes(receiver);
});

scenario("a message is dead-lettered with reason, description and what was changed", ["3.7 dead-letter with reason and description", "3.7 properties to modify", "3.2 dead-letter queue by its address"], async (place) => {
  const { queue, client, sender } = await on(place);
  await sender.sendMessages({ body: "x" });
  const receiver = client.createReceiver(queue);
  const [message] = await take(receiver, 1);
  await receiver.deadLetterMessage(message, { deadLetterReason: "r", deadLetterErrorDescription: "d", extra: 1 });
  const [dead] = await takeAndComplete(client.createReceiver(queue, { subQueueType: "deadLetter" }), 1);
  assert.deepEqual([dead.deadLetterReason, dead.deadLetterErrorDescription], ["r", "d"]);
  assert.equal(dead.applicationProperties.extra, 1);
  assert.equal(dead.body, "x");
});

scenario("a message that fails too often is dead-lettered", ["4.1 max delivery count"], async (place) => {
  const { queue, client, sender } = await on(place, { maxDeliveryCount: 2 });
  await sender.sendMessages({ body: "poison" });
  const receiver = client.createReceiver(queue);
  for (let n = 0; n < 2; n++) await receiver.abandonMessage((await take(receiver, 1))[0]);
  await nothingComes(receiver);
  const [dead] = await takeAndComplete(client.createReceiver(queue, { subQueueType: "deadLetter" }), 1);
  assert.equal(dead.deadLetterReason, "MaxDeliveryCountExceeded");
});

scenario("what is settled too late is refused", ["4.1 a lock expires", "3.7 settling after the lock is gone"], async (place) => {
  const { queue, client, sender } = await on(place, { lockDuration: "PT1S" }, impatient);
  await sender.sendMessages({ body: "x" });
  const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  const [late] = await take(receiver, 1);
  const other = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  const [again] = await take(other, 1);
  assert.equal(again.deliveryCount, 1);
  await assert.rejects(receiver.completeMessage(late), { code: "MessageLockLost" });
  await other.completeMessage(again);
});

scenario("a renewed lock lasts", ["3.8 renew-lock", "4.1 a renewed lock lasts"], async (place) => {
  const { queue, client, sender } = await on(place, { lockDuration: "PT3S" });
  await sender.sendMessages({ body: "x" });
  const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  const other = client.createReceiver(queue);
  const [message] = await take(receiver, 1);
  for (let n = 0; n < 5; n++) {
    await nothingComes(other);
    assert((await receiver.renewMessageLock(message)) > message.enqueuedTimeUtc);
  }
  await receiver.completeMessage(message);
});

scenario("peeking takes nothing and goes on", ["3.8 peek-message"], async (place) => {
  const { queue, client, sender } = await on(place);
  const receiver = client.createReceiver(queue);
  assert.deepEqual(await receiver.peekMessages(5), []);
  await sender.sendMessages([0, 1, 2, 3, 4].map((body) => ({ body })));
  assert.deepEqual(bodies(await receiver.peekMessages(2)), [0, 1]);
  assert.deepEqual(bodies(await receiver.peekMessages(9)), [2, 3, 4]);
  assert.deepEqual(bodies(await takeAndComplete(receiver, 5)), [0, 1, 2, 3, 4]);
});

scenario("scheduled messages wait and can be cancelled", ["3.8 schedule-message", "3.8 cancel-scheduled-message", "4.4 scheduled by annotation"], async (place) => {
  const { queue, client, sender } = await on(place);
  const soon = new Date(Date.now() + 5000);
  const numbers = await sender.scheduleMessages([{ body: 0 }, { body: 1 }], soon);
  await sender.sendMessages({ body: 2, scheduledEnqueueTimeUtc: soon });
  const receiver = client.createReceiver(queue);
  assert.deepEqual((await receiver.peekMessages(9)).map((message) => message.state), Array(3).fill("scheduled"));
  await sender.cancelScheduledMessages(numbers[0]);
  const found = await takeAndComplete(receiver, 2);
  assert.deepEqual(bodies(found).sort(), [1, 2]);
  assert(Date.now() >= soon.getTime());
});

scenario("duplicates are dropped", ["4.3 duplicate detection"], async (place) => {
  const { queue, client, sender } = await on(place, { requiresDuplicateDetection: true });
  const messageId = randomUUID();
  await sender.sendMessages([{ body: 1, messageId }, { body: 2, messageId }, { body: 3 }]);
  await sender.sendMessages({ body: 4, messageId });
  const receiver = client.createReceiver(queue);
  assert.deepEqual(bodies(await takeAndComplete(receiver, 2)), [1, 3]);
  await nothingComes(receiver);
});

scenario("expired messages go where they are told", ["4.7 time to live", "4.2 time to live ends in the dead-letter queue"], async (place) => {
  const { queue, client, sender } = await on(place, { deadLetteringOnMessageExpiration: true });
  await sender.sendMessages({ body: "brief", timeToLive: 1000 });
  const [dead] = await takeAndComplete(client.createReceiver(queue, { subQueueType: "deadLetter" }), 1);
  assert.equal(dead.deadLetterReason, "TTLExpiredException");
});

scenario("a missing entity is named", ["3.4 a missing entity is refused at attach"], async (place) => {
  const client = place.client(impatient);
  await assert.rejects(client.createSender("nowhere").sendMessages({ body: 1 }), { code: "MessagingEntityNotFound" });
  await assert.rejects(client.createReceiver("nowhere").receiveMessages(1), { code: "MessagingEntityNotFound" });
});

scenario("a subscriber is given everything that comes", ["3.7 complete", "3.4 a delivery of many frames"], async (place) => {
  const { queue, client, sender } = await on(place);
  const found = [];
  const receiver = client.createReceiver(queue);
  const errors = [];
  receiver.subscribe(
    { processMessage: async (message) => void found.push(message.body), processError: async ({ error }) => void errors.push(error) },
    { maxConcurrentCalls: 5 },
  );
  await sender.sendMessages(Array.from({ length: 50 }, (_, n) => ({ body: n })));
  await eventually(() => found.length === 50);
  assert.deepEqual(found.sort((a, b) => a - b), Array.from({ length: 50 }, (_, n) => n));
  assert.deepEqual(errors, []);
  const left = async () => (await place.admin.getQueueRuntimeProperties(queue)).activeMessageCount === 0;
  await eventually(left);
});

scenario("messages are purged in one go", ["3.8 peek-message"], async (place) => {
  const { queue, client, sender } = await on(place);
  await sender.sendMessages([1, 2, 3].map((body) => ({ body })));
  const receiver = client.createReceiver(queue);
  if (typeof receiver.purgeMessages === "function") {
    assert.equal(await receiver.purgeMessages(), 3);
  } else {
    await takeAndComplete(receiver, 3);
  }
  await nothingComes(receiver);
});
