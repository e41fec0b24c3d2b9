// The management API through `ServiceBusAdministrationClient`.

import assert from "node:assert/strict";
import { ServiceBusAdministrationClient } from "@azure/service-bus";
import { ADMIN_CONNECTION, HTTP, eventually, scenario } from "./suite.mjs";

async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

const refused = (code, status) => (error) => {
  assert.equal(error.code, code, `${error.code}: ${error.message}`);
  if (status) assert.equal(error.statusCode, status);
  return true;
};

scenario("queues live and end", ["6.1 queues: create, get, list, update, delete", "6.1 https that the SDK trusts"], async (place) => {
  const name = place.name();
  const settings = {
    lockDuration: "PT20S",
    maxDeliveryCount: 7,
    requiresSession: true,
    requiresDuplicateDetection: true,
    duplicateDetectionHistoryTimeWindow: "PT1M",
    defaultMessageTimeToLive: "PT2H",
    deadLetteringOnMessageExpiration: true,
    maxSizeInMegabytes: 2048,
    enableBatchedOperations: false,
    userMetadata: '<a & "b">',
    autoDeleteOnIdle: "P1D",
  };
  const created = await place.admin.createQueue(name, settings);
  const got = await place.admin.getQueue(name);
  for (const queue of [created, got]) {
    assert.equal(queue.name, name);
    for (const [key, value] of Object.entries(settings)) assert.equal(queue[key], value, key);
    assert.equal(queue.status, "Active");
    assert.equal(queue.availabilityStatus, "Available");
  }
  await place.admin.updateQueue({ ...got, lockDuration: "PT30S", status: "SendDisabled" });
  const updated = await place.admin.getQueue(name);
  assert.deepEqual([updated.lockDuration, updated.status, updated.maxDeliveryCount], ["PT30S", "SendDisabled", 7]);
  assert((await all(place.admin.listQueues())).some((queue) => queue.name === name));
  assert.equal(await place.admin.queueExists(name), true);
  await place.admin.deleteQueue(name);
  assert.equal(await place.admin.queueExists(name), false);
});

scenario("a queue has Service Bus's defaults", ["6.1 queues: create, get, list, update, delete"], async (place) => {
  const queue = await place.admin.createQueue(place.name());
  const expected = {
    lockDuration: "PT1M",
    maxDeliveryCount: 10,
    requiresSession: false,
    requiresDuplicateDetection: false,
    duplicateDetectionHistoryTimeWindow: "PT10M",
    defaultMessageTimeToLive: "P10675199DT2H48M5.4775807S",
    autoDeleteOnIdle: "P10675199DT2H48M5.4775807S",
    deadLetteringOnMessageExpiration: false,
    enableBatchedOperations: true,
    enablePartitioning: false,
    enableExpress: false,
    maxSizeInMegabytes: 1024,
    forwardTo: undefined,
    userMetadata: undefined,
  };
  for (const [key, value] of Object.entries(expected)) assert.equal(queue[key], value, key);
  await place.admin.updateQueue(queue);
});

scenario("topics live and end", ["6.1 topics: create, get, list, update, delete"], async (place) => {
  const name = place.name("topic");
  const settings = {
    defaultMessageTimeToLive: "PT10M",
    requiresDuplicateDetection: true,
    duplicateDetectionHistoryTimeWindow: "PT30S",
    supportOrdering: false,
    userMetadata: "topic",
  };
  await place.admin.createTopic(name, settings);
  const got = await place.admin.getTopic(name);
  for (const [key, value] of Object.entries(settings)) assert.equal(got[key], value, key);
  await place.admin.updateTopic({ ...got, defaultMessageTimeToLive: "PT20M" });
  assert.equal((await place.admin.getTopic(name)).defaultMessageTimeToLive, "PT20M");
  assert((await all(place.admin.listTopics())).some((topic) => topic.name === name));
  await place.admin.deleteTopic(name);
  assert.equal(await place.admin.topicExists(name), false);
});

scenario("subscriptions live and end", ["6.1 subscriptions: create, get, list, update, delete"], async (place) => {
  const topic = await place.topic();
  const settings = {
    lockDuration: "PT15S",
    requiresSession: true,
    defaultMessageTimeToLive: "PT1M",
    deadLetteringOnMessageExpiration: true,
    deadLetteringOnFilterEvaluationExceptions: false,
    maxDeliveryCount: 3,
    userMetadata: "s",
    autoDeleteOnIdle: "PT1H",
  };
  const created = await place.admin.createSubscription(topic, "S1", settings);
  assert.deepEqual([created.topicName, created.subscriptionName], [topic, "S1"]);
  const got = await place.admin.getSubscription(topic, "s1");
  for (const [key, value] of Object.entries(settings)) assert.equal(got[key], value, key);
  await place.admin.updateSubscription({ ...got, maxDeliveryCount: 4 });
  assert.equal((await place.admin.getSubscription(topic, "S1")).maxDeliveryCount, 4);
  await place.admin.createSubscription(topic, "S0");
  assert.deepEqual((await all(place.admin.listSubscriptions(topic))).map((one) => one.subscriptionName), ["S0", "S1"]);
  await place.admin.deleteSubscription(topic, "S1");
  assert.equal(await place.admin.subscriptionExists(topic, "S1"), false);
});

scenario("a subscription begins with a rule of one's own", ["6.1 rules: create, get, list, update, delete"], async (place) => {
  const topic = await place.topic();
  await place.admin.createSubscription(topic, "s", {
    defaultRuleOptions: { name: "first", filter: { subject: "l" } },
  });
  const rules = await all(place.admin.listRules(topic, "s"));
  assert.deepEqual(rules.map((rule) => [rule.name, rule.filter.subject]), [["first", "l"]]);
});

scenario("rules live and end", ["6.1 rules: create, get, list, update, delete"], async (place) => {
  const topic = await place.topic();
  const subscription = await place.subscription(topic);
  const { admin } = place;
  assert.equal((await admin.getRule(topic, subscription, "$Default")).filter.sqlExpression, "1=1");
  const action = { sqlExpression: "SET b = 2" };
  const made = await admin.createRule(topic, subscription, "sql", { sqlExpression: "a > 1" }, action);
  assert.equal(made.name, "sql");
  const filter = {
    correlationId: "1", messageId: "2", to: "3", replyTo: "4", subject: "5", sessionId: "6", replyToSessionId: "7",
    contentType: "8", applicationProperties: { k: "v" },
  };
  await admin.createRule(topic, subscription, "correlation", filter);
  assert.deepEqual({ ...(await admin.getRule(topic, subscription, "correlation")).filter }, filter);
  const sql = await admin.getRule(topic, subscription, "sql");
  assert.deepEqual([sql.filter.sqlExpression, sql.action.sqlExpression], ["a > 1", "SET b = 2"]);
  await admin.updateRule(topic, subscription, { ...sql, filter: { sqlExpression: "a < 1" } });
  assert.equal((await admin.getRule(topic, subscription, "sql")).filter.sqlExpression, "a < 1");
  await admin.deleteRule(topic, subscription, "$Default");
  assert.deepEqual((await all(admin.listRules(topic, subscription))).map((rule) => rule.name).sort(), ["correlation", "sql"]);
  assert.equal(await admin.ruleExists(topic, subscription, "$Default"), false);
});

scenario("values in rules keep their types", ["6.1 typed values in rules"], async (place) => {
  const topic = await place.topic();
  const subscription = await place.subscription(topic);
  const applicationProperties = { s: "a < b & c", n: 7, d: 1.5, t: true, f: false, at: new Date("2026-11-23T10:20:30.123Z") };
  await place.admin.createRule(topic, subscription, "c", { applicationProperties });
  const got = await place.admin.getRule(topic, subscription, "c");
  assert.deepEqual(got.filter.applicationProperties, applicationProperties);
  const sqlParameters = { "@p": 5, "@q": "x" };
  await place.admin.createRule(topic, subscription, "s", { sqlExpression: "a = @p AND b = @q", sqlParameters });
  assert.deepEqual((await place.admin.getRule(topic, subscription, "s")).filter.sqlParameters, sqlParameters);
});

scenario("what exists and what doesn't", ["6.1 what exists and what doesn't"], async (place) => {
  const { admin } = place;
  const nowhere = place.name();
  const [queue, topic] = [await place.queue(), await place.topic()];
  const subscription = await place.subscription(topic);
  const exists = refused("MessageEntityAlreadyExistsError", 409);
  await assert.rejects(admin.createQueue(queue), exists);
  await assert.rejects(admin.createTopic(queue), exists);
  await assert.rejects(admin.createSubscription(topic, subscription), exists);
  await assert.rejects(admin.createRule(topic, subscription, "$Default", { sqlExpression: "1=1" }), exists);
  const missing = refused("MessageEntityNotFoundError");
  await assert.rejects(admin.getQueue(nowhere), missing);
  await assert.rejects(admin.getTopicRuntimeProperties(nowhere), missing);
  await assert.rejects(admin.getSubscription(topic, nowhere), missing);
  await assert.rejects(admin.getRule(topic, subscription, nowhere), missing);
  await assert.rejects(admin.deleteQueue(nowhere), missing);
  await assert.rejects(admin.deleteRule(topic, subscription, nowhere), missing);
  await assert.rejects(admin.createSubscription(nowhere, "s"), missing);
});

scenario("settings out of bounds are refused", ["6.1 settings out of bounds"], async (place) => {
  const { admin } = place;
  const topic = await place.topic();
  const subscription = await place.subscription(topic);
  const wrong = refused("ServiceError", 400);
  await assert.rejects(admin.createQueue(place.name(), { lockDuration: "PT6M" }), wrong);
  await assert.rejects(admin.createQueue(place.name(), { lockDuration: "a minute" }), wrong);
  await assert.rejects(admin.createQueue(place.name(), { maxDeliveryCount: 0 }), wrong);
  await assert.rejects(admin.createQueue(place.name(), { forwardTo: "nowhere-at-all" }), wrong);
  await assert.rejects(admin.createQueue("x".repeat(261)), wrong);
  await assert.rejects(admin.createRule(topic, subscription, "r", { sqlExpression: "a = " }), wrong);
  const queue = await admin.createQueue(place.name());
  await assert.rejects(admin.updateQueue({ ...queue, requiresSession: true }), wrong);
});

scenario("counters tell what is there", ["6.1 runtime counters"], async (place) => {
  const queue = await place.queue();
  const sender = place.client().createSender(queue);
  await sender.sendMessages([{ body: "1" }, { body: "2" }, { body: "3" }]);
  await sender.scheduleMessages({ body: "later" }, new Date(Date.now() + 3_600_000));
  const receiver = place.client().createReceiver(queue);
  const [message] = await receiver.receiveMessages(1, { maxWaitTimeInMs: 20_000 });
  await receiver.deadLetterMessage(message);
  const found = await place.admin.getQueueRuntimeProperties(queue);
  const { activeMessageCount, deadLetterMessageCount, scheduledMessageCount, transferMessageCount, totalMessageCount } = found;
  assert.deepEqual([activeMessageCount, deadLetterMessageCount, scheduledMessageCount, transferMessageCount], [2, 1, 1, 0]);
  assert.equal(totalMessageCount, 4);
  assert(found.sizeInBytes > 0);
  for (const time of [found.createdAt, found.modifiedAt, found.accessedAt]) assert(Math.abs(Date.now() - time) < 60_000, time);
  assert((await all(place.admin.listQueuesRuntimeProperties())).some((one) => one.name === queue));
  const topic = await place.topic();
  const subscription = await place.subscription(topic);
  await place.client().createSender(topic).sendMessages({ body: "1" });
  assert.equal((await place.admin.getSubscriptionRuntimeProperties(topic, subscription)).activeMessageCount, 1);
  assert.equal((await place.admin.getTopicRuntimeProperties(topic)).subscriptionCount, 1);
});

scenario("the namespace describes itself", ["6.1 namespace info"], async (place) => {
  const namespace = await place.admin.getNamespaceProperties();
  assert.deepEqual([namespace.name, namespace.messagingSku], ["sbemulatorns", "Standard"]);
  assert(namespace.createdAt <= new Date());
});

scenario("forwarding is shown as a URL", ["6.1 forwarding"], async (place) => {
  const target = await place.queue();
  const shown = `sb://localhost:${HTTP.split(":").at(-1)}/${target}`;
  const queue = await place.admin.createQueue(place.name(), { forwardTo: target, forwardDeadLetteredMessagesTo: target });
  assert.deepEqual([queue.forwardTo, queue.forwardDeadLetteredMessagesTo], [shown, shown]);
  const topic = await place.topic();
  const subscription = await place.admin.createSubscription(topic, "s", { forwardTo: shown });
  assert.equal(subscription.forwardTo, shown);
});

scenario("lists come in pages", ["6.1 paging"], async (place) => {
  const topic = await place.topic();
  const names = Array.from({ length: 25 }, (_, number) => `s${String(number).padStart(3, "0")}`);
  for (const name of names) await place.admin.createSubscription(topic, name);
  const sizes = [];
  const found = [];
  for await (const page of place.admin.listSubscriptions(topic).byPage({ maxPageSize: 10 })) {
    sizes.push(page.length);
    found.push(...page.map((one) => one.subscriptionName));
  }
  assert.deepEqual(sizes, [10, 10, 5]);
  assert.deepEqual(found, names);
});

scenario("an older version is spoken", ["6.1 api versions"], async (place) => {
  const old = new ServiceBusAdministrationClient(ADMIN_CONNECTION, { serviceVersion: "2017-04" });
  const name = place.name();
  await assert.rejects(old.createQueue(name, { maxMessageSizeInKilobytes: 512 }), refused("ServiceError", 400));
  assert.equal((await old.createQueue(name)).maxMessageSizeInKilobytes, undefined);
  assert.equal((await place.admin.getQueue(name)).maxMessageSizeInKilobytes, 256);
});

scenario("administration needs the key", ["3.3 a wrong key is refused"], async (place) => {
  for (const wrong of [
    ADMIN_CONNECTION.replace("SAS_KEY_VALUE", "another"),
    ADMIN_CONNECTION.replace("RootManage", "Another"),
  ]) {
    const admin = new ServiceBusAdministrationClient(wrong);
    await assert.rejects(admin.createQueue(place.name()), refused("UnauthorizedRequestError", 401));
  }
});

scenario("an idle queue goes", ["4.7 auto-delete on idle"], async (place) => {
  const name = await place.queue({ autoDeleteOnIdle: "PT2S" });
  const listed = async () => (await all(place.admin.listQueues())).some((queue) => queue.name === name);
  assert.equal(await listed(), true);
  await eventually(async () => !(await listed()));
});
