// What every scenario needs: where the emulator is, entities of its own, and how it is told that it passed.
//
// A scenario is an async function of one argument, `place`, given to `scenario(name, rows, function)`. The rows are
// those of ../rows.txt: the sentences of service-bus.md that it proves. Scenarios run side by side, so that each makes
// its own entities (`place.queue()`, `place.topic()`); clients of `place.client()` are closed with the scenario.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { ServiceBusAdministrationClient, ServiceBusClient } from "@azure/service-bus";

// As sdk/run gives them. NODE_EXTRA_CA_CERTS says whom administration over https trusts.
export const CONNECTION = process.env.EMULATOR_CONNECTION;
export const ADMIN_CONNECTION = process.env.EMULATOR_ADMIN_CONNECTION;
export const AMQP = process.env.EMULATOR_AMQP;
export const HTTP = process.env.EMULATOR_HTTP;
export const KEY_NAME = "RootManageSharedAccessKey";
export const KEY = "SAS_KEY_VALUE";

// Seconds that one scenario may take, and how many run side by side.
const PATIENCE = Number(process.env.EMULATOR_PATIENCE ?? 60);
const SIDE_BY_SIDE = Number(process.env.EMULATOR_SIDE_BY_SIDE ?? 8);
// Whether the first failure ends the suite.
const FAIL_FAST = "EMULATOR_FAIL_FAST" in process.env;

export const scenarios = [];

export function scenario(name, rows, run) {
  assert(Array.isArray(rows) && rows.length > 0, `${name} names no row`);
  scenarios.push({ name, rows, run });
}

export class Place {
  #admin;
  #clients = [];

  get admin() {
    this.#admin ??= new ServiceBusAdministrationClient(ADMIN_CONNECTION);
    return this.#admin;
  }

  /// A name that nobody else has.
  name(kind = "q") {
    return `${kind}-${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  }

  async queue(settings = {}) {
    const name = this.name("queue");
    await this.admin.createQueue(name, settings);
    return name;
  }

  async topic(settings = {}) {
    const name = this.name("topic");
    await this.admin.createTopic(name, settings);
    return name;
  }

  async subscription(topic, settings = {}) {
    const name = this.name("sub");
    await this.admin.createSubscription(topic, name, settings);
    return name;
  }

  client(options = {}) {
    const client = new ServiceBusClient(CONNECTION, options);
    this.#clients.push(client);
    return client;
  }

  /// The emulator's own way to answer everything at an entity with server-busy for a while.
  async serverBusy(entity, seconds) {
    const resource = encodeURIComponent("https://localhost");
    const expiry = Math.ceil(Date.now() / 1000) + 600;
    const signature = createHmac("sha256", KEY).update(`${resource}\n${expiry}`).digest("base64");
    const Authorization =
      `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}&skn=${KEY_NAME}`;
    const url = `http://${HTTP}/$emulator/server-busy?entity=${entity}&seconds=${seconds}`;
    const answer = await fetch(url, { method: "PUT", headers: { Authorization } });
    assert.equal(answer.status, 200, await answer.text());
  }

  async close() {
    await Promise.all(this.#clients.map((client) => client.close()));
  }
}

/// What `look` gives as soon as it gives something true.
export async function eventually(look, patience = 20) {
  const deadline = performance.now() + patience * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert(performance.now() < deadline, `${look} never came true`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function runOne({ name, rows, run }) {
  const place = new Place();
  const begun = performance.now();
  const label = () => `js ${name} (${rows.join("; ")}) ${((performance.now() - begun) / 1000).toFixed(1)} s`;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${PATIENCE} s`)), PATIENCE * 1000);
  });
  try {
    await Promise.race([late, (async () => { await run(place); await place.close(); })()]);
    console.log(`ok   ${label()}`);
    return true;
  } catch (error) {
    console.log(`FAIL ${label()}\n${error?.stack ?? error}`);
    place.close().catch(() => {});
    return false;
  } finally {
    clearTimeout(timer);
  }
}

export async function main(only) {
  const chosen = scenarios.filter(({ name }) => name.includes(only));
  const waiting = [...chosen];
  let [passed, failed] = [0, 0];
  process.on("unhandledRejection", (error) => {
    failed += 1;
    console.log(`FAIL js: a promise was rejected and nobody looked\n${error?.stack ?? error}`);
  });
  await Promise.all(
    Array.from({ length: SIDE_BY_SIDE }, async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        if (await runOne(next)) passed += 1;
        else failed += 1;
        if (failed && FAIL_FAST) waiting.length = 0;
      }
    }),
  );
  console.log(`js: ${passed} passed, ${failed} failed`);
  process.exit(failed > 0 || chosen.length === 0 ? 1 : 0);
}
