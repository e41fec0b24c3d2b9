// What every contestant says and hears, for those of Node.js: the twin of ../../src/measure/peers/contestant.rs.

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export const INSERT = "INSERT INTO business (customer, note) VALUES ($1, $2)";

export const order = (n) => ({ n, note: "x".repeat(178) });

const say = (words) => process.stdout.write(JSON.stringify(words) + "\n");

// Which row came to the handler when.
class Calls {
  constructor(rows) {
    this.at = new Array(rows).fill(null);
    this.calls = 0;
    this.distinct = 0;
    this.waiting = [];
  }

  // Waits until so many rows were seen.
  reach(rows) {
    return new Promise((resolve) => {
      if (this.distinct >= rows) resolve();
      else this.waiting.push({ rows, resolve });
    });
  }

  note(n) {
    const now = performance.now();
    this.calls += 1;
    if (this.at[n] !== null) return;
    this.at[n] = now;
    this.distinct += 1;
    if (this.waiting.length === 0) return;
    for (const { rows, resolve } of this.waiting) if (this.distinct >= rows) resolve();
    this.waiting = this.waiting.filter(({ rows }) => this.distinct < rows);
  }
}

// `prepare(task, handle)` gives `left`, `start`, `publish` and `stop`; `handle(n)` is what its handler calls at its end.
export async function compete(prepare) {
  try {
    await takePart(prepare);
  } catch (error) {
    // The last line is what the bench tells.
    console.error(error.stack);
    console.error(error.message);
    process.exit(1);
  }
}

async function takePart(prepare) {
  const [url, mode, settings, rows, pool, pause] = process.argv.slice(2);
  const fast = settings === "fast";
  // The parameters are of another client's.
  const task = { url: url.split("?")[0], mode, fast, rows: Number(rows), pool: Number(pool), pause: Number(pause) };
  const calls = new Calls(task.rows);
  const handle = async (n) => {
    if (mode === "drain" && task.pause > 0) await sleep(task.pause);
    calls.note(n);
  };
  const peer = await prepare(task, handle);
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  say({ ready: { left: peer.left } });
  if ((await lines.next()).done) throw new Error("nobody said go");
  const begun = performance.now();
  await peer.start();
  if (mode === "latency") {
    say({ latencies: await latencies(task, peer, calls) });
  } else {
    await calls.reach(task.rows);
    const seconds = calls.at.map((at) => (at - begun) / 1000);
    const least = (values) => values.reduce((least, value) => Math.min(least, value), Infinity);
    const most = (values) => values.reduce((most, value) => Math.max(most, value), 0);
    say({ done: { first: least(seconds), last: most(seconds) } });
  }
  while (!(await lines.next()).done);
  await peer.stop();
  say({ ended: { calls: calls.calls, distinct: calls.distinct } });
}

async function latencies(task, peer, calls) {
  // What follows a start is over.
  await sleep(1000);
  const committed = [];
  for (let n = 0; n < task.rows; n += 1) {
    // As a poll goes on from the row before, each part of it gets its share.
    await sleep(150 + (task.pause * ((n * 37) % 100)) / 100);
    await peer.publish(n);
    committed.push(performance.now());
    // The next one finds it idle again.
    await calls.reach(n + 1);
  }
  // A notification can be quicker than the answer to the commit. The first row is everybody's warm-up.
  return committed.map((commit, n) => Math.max(0, calls.at[n] - commit)).slice(1);
}
