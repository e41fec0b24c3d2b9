// pg-boss: a job queue. Fast are large batches, which are fetched without a pause while they come full, four workers, the
// handler in the transaction that completes its batch, and a notification for each job.

import { PgBoss } from "pg-boss";

import { INSERT, compete, order } from "./contestant.mjs";

const QUEUE = "order-placed";

await compete(async (task, handle) => {
  const boss = new PgBoss({ connectionString: task.url, max: task.pool, ...(task.fast && { useListenNotify: true }) });
  boss.on("error", (error) => console.error(error.message));
  await boss.start();
  await boss.createQueue(QUEUE, task.fast ? { notify: true } : {});
  if (task.mode !== "latency") {
    for (let from = 0; from < task.rows; from += 1000) {
      const count = Math.min(1000, task.rows - from);
      await boss.insert(QUEUE, Array.from({ length: count }, (_, n) => ({ data: order(from + n) })));
    }
  }
  const inserts = task.mode === "processing";
  const fast = { batchSize: 1000, localConcurrency: 4, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
  return {
    left: "SELECT count(*) FROM pgboss.job WHERE name = 'order-placed' AND state <> 'completed'",
    async start() {
      const own = boss.getDb();
      await boss.work(QUEUE, task.fast ? { ...fast, transactional: inserts } : {}, async (jobs, tx) => {
        // One connection has one statement at a time; what needs none goes side by side.
        if (!inserts) return void (await Promise.all(jobs.map(({ data }) => handle(data.n))));
        for (const { data } of jobs) {
          await (tx ?? own).executeSql(INSERT, [data.n, data.note]);
          await handle(data.n);
        }
      });
    },
    async publish(n) {
      await boss.send(QUEUE, order(n));
    },
    async stop() {
      await boss.stop({ graceful: true });
    },
  };
});
