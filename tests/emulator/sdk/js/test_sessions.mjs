// Sessions and topics.

import assert from "node:assert/strict";
import { scenario } from "./suite.mjs";
import { bodies, nothingComes, take, takeAndComplete } from "./test_messages.mjs";

const impatient = { retryOptions: { maxRetries: 0, timeoutInMs: 3000 } };

async function on(place, settings = {}, options = {}) {
  const queue = await place.queue({ requiresSession: true, ...settings });
  const client = place.client(options);
  const sender = client.createSender(queue);
  const send = (...pairs) => sender.sendMessages(pairs.map(([sessionId, body]) => ({ sessionId, body })));
  return { queue, client, sender, send };
}

scenario("a named session gives its messages in order", ["3.5 a named session", "4.5 sessions keep their order"], async (place) => {
  const { queue, client, send } = await on(place);
  await send(...[0, 1, 2, 3].flatMap((n) => [["a", `a${n}`], ["b", `b${n}`]]));
  const receiver = await client.acceptSession(queue, "b");
  assert.equal(receiver.sessionId, "b");
  assert.deepEqual(bodies(await takeAndComplete(receiver, 4)), ["b0", "b1", "b2", "b3"]);
  await nothingComes(receiver);
  await receiver.close();
});

scenario("the next session is one with messages", ["3.5 the next available session", "3.5 no session in time"], async (place) => {
  const { queue, client, send } = await on(place, {}, impatient);
  await assert.rejects(client.acceptNextSession(queue), { code: "ServiceTimeout" });
  await send(["a", 1], ["b", 2]);
  const [first, second] = [await client.acceptNextSession(queue), await client.acceptNextSession(queue)];
  assert.deepEqual([first.sessionId, second.sessionId].sort(), ["a", "b"]);
  for (const receiver of [first, second]) {
    await takeAndComplete(receiver, 1);
    await receiver.close();
  }
});

scenario("a held session is nobody else's", ["3.5 a session that somebody else holds", "4.5 sessions are exclusive"], async (place) => {
  const { queue, client, send } = await on(place, {}, impatient);
  await send(["a", 1]);
  const receiver = await client.acceptSession(queue, "a");
  await assert.rejects(client.acceptSession(queue, "a"), { code: "SessionCannotBeLocked" });
  await receiver.close();
  await (await client.acceptSession(queue, "a")).close();
});

scenario("a session that is held too long is lost", ["3.5 a session lock is lost"], async (place) => {
  const { queue, client, send } = await on(place, { lockDuration: "PT1S" }, impatient);
  await send(["a", 1]);
  const receiver = await client.acceptSession(queue, "a", { maxAutoLockRenewalDurationInMs: 0 });
  const [message] = await take(receiver, 1);
  let other;
  while (!other) {
    other = await client.acceptSession(queue, "a", { maxAutoLockRenewalDurationInMs: 0 }).catch((error) => {
      assert.equal(error.code, "SessionCannotBeLocked");
    });
  }
  await assert.rejects(receiver.completeMessage(message), { code: "SessionLockLost" });
  const [again] = await takeAndComplete(other, 1);
  assert.equal(again.deliveryCount, 1);
});

scenario("a renewed session lasts", ["3.8 renew-session-lock"], async (place) => {
  const { queue, client, send } = await on(place, { lockDuration: "PT3S" });
  await send(["a", 1]);
  const receiver = await client.acceptSession(queue, "a", { maxAutoLockRenewalDurationInMs: 0 });
  const [message] = await take(receiver, 1);
  for (let n = 0; n < 5; n++) {
    await nothingComes(receiver);
    assert((await receiver.renewSessionLock()) > message.enqueuedTimeUtc);
  }
  await receiver.completeMessage(message);
});

scenario("a session's state outlives its messages", ["3.8 get- and set-session-state", "4.5 session state outlives messages"], async (place) => {
  const { queue, client, send } = await on(place);
  await send(["a", 1]);
  const receiver = await client.acceptSession(queue, "a");
  assert.equal(await receiver.getSessionState(), null);
  await receiver.setSessionState({ step: 2 });
  await takeAndComplete(receiver, 1);
  await receiver.close();
  const later = await client.acceptSession(queue, "a");
  assert.deepEqual(await later.getSessionState(), { step: 2 });
});

scenario("sessions with messages are listed", ["3.8 get-message-sessions"], async (place) => {
  const { queue, client, send } = await on(place);
  await send(["a", 1], ["b", 2], ["c", 3]);
  // The public API has no list; this is what it has inside. The last of all times asks for sessions with messages.
  const management = client._connectionContext.getManagementClient(queue);
  const found = await management.listMessageSessions(0, 100, new Date(253_402_300_800_000));
  assert.deepEqual([...found].sort(), ["a", "b", "c"]);
  const receiver = await client.acceptSession(queue, "b");
  await receiver.setSessionState("state");
  assert.deepEqual([...(await management.listMessageSessions(0, 100))], ["b"]);
});

scenario("a session receiver wants sessions, and a plain one none", ["3.5 a session receiver on a plain entity", "3.5 a plain receiver on a session entity"], async (place) => {
  const { queue, client, sender } = await on(place, {}, impatient);
  const plain = await place.queue();
  await assert.rejects(client.acceptSession(plain, "a"));
  await assert.rejects(client.createReceiver(queue).receiveMessages(1, { maxWaitTimeInMs: 1000 }));
  await assert.rejects(sender.sendMessages({ body: "without a session" }));
});

scenario("rules decide what a subscription gets", ["3.8 add-, remove- and enumerate-rules", "4.6 SQL filters", "4.6 correlation filters", "4.6 SQL actions", "4.6 true and false filters"], async (place) => {
  const topic = await place.topic();
  const subscription = await place.subscription(topic);
  const client = place.client();
  const rules = client.createRuleManager(topic, subscription);
  await rules.deleteRule("$Default");
  await rules.createRule("large", { sqlExpression: "amount > @least", sqlParameters: { "@least": 10 } }).catch(async () => {
    await rules.createRule("large", { sqlExpression: "amount > 10" });
  });
  await rules.createRule("special", { subject: "special", applicationProperties: { tenant: "a" } });
  await rules.createRule("never", { sqlExpression: "1 = 0" });
  const names = [];
  for await (const rule of rules.listRules()) names.push(rule.name);
  assert.deepEqual(names.sort(), ["large", "never", "special"]);
  await rules.deleteRule("never");
  const sender = client.createSender(topic);
  await sender.sendMessages([
    { body: 1, applicationProperties: { amount: 5 } },
    { body: 2, applicationProperties: { amount: 50 } },
    { body: 3, subject: "special", applicationProperties: { tenant: "a" } },
    { body: 4, subject: "special", applicationProperties: { tenant: "b" } },
  ]);
  const receiver = client.createReceiver(topic, subscription);
  assert.deepEqual(bodies(await takeAndComplete(receiver, 2)), [2, 3]);
  await nothingComes(receiver);
});

scenario("every subscription gets its copy, changed by its rule", ["3.2 subscription by its address", "4.6 SQL actions", "4.6 a copy for each rule with an action"], async (place) => {
  const topic = await place.topic();
  const [plain, changed] = [await place.subscription(topic), await place.subscription(topic)];
  await place.admin.createRule(topic, changed, "marks", { sqlExpression: "1 = 1" }, { sqlExpression: "SET colour = 'blue'" });
  await place.admin.deleteRule(topic, changed, "$Default");
  const client = place.client();
  await client.createSender(topic).sendMessages({ body: "x", applicationProperties: { colour: "red" } });
  const [one] = await takeAndComplete(client.createReceiver(topic, plain), 1);
  const [other] = await takeAndComplete(client.createReceiver(topic, changed), 1);
  assert.deepEqual([one.applicationProperties.colour, other.applicationProperties.colour], ["red", "blue"]);
  assert.equal(other.applicationProperties.RuleName, "marks");
});
