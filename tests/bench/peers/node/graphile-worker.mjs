// graphile-worker: a job queue. Fast are the settings of its page on performance, but for the size of the pool.

import { Logger, WorkerPreset, makeWorkerUtils, run, runMigrations } from "graphile-worker";

import { INSERT, compete, order } from "./contestant.mjs";

const TASK = "order-placed";

await compete(async (task, handle) => {
  const logger = new Logger(() => () => {});
  const fast = { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  const worker = { connectionString: task.url, maxPoolSize: task.pool, logger };
  const preset = { extends: [WorkerPreset], worker: task.fast ? { ...worker, ...fast } : worker };
  await runMigrations({ preset });
  const utils = await makeWorkerUtils({ preset: { ...preset, worker: { ...worker, maxPoolSize: 2 } } });
  if (task.mode !== "latency") {
    for (let from = 0; from < task.rows; from += 1000) {
      const count = Math.min(1000, task.rows - from);
      const jobs = Array.from({ length: count }, (_, n) => ({ identifier: TASK, payload: order(from + n) }));
      await utils.addJobs(jobs);
    }
  }
  let runner;
  return {
    left: "SELECT count(*) FROM graphile_worker._private_jobs",
    async start() {
      const handler = async (payload, helpers) => {
        if (task.mode === "processing") await helpers.query(INSERT, [payload.n, payload.note]);
        await handle(payload.n);
      };
      runner = await run({ preset, noHandleSignals: true, taskList: { [TASK]: handler }, parsedCronItems: [] });
    },
    async publish(n) {
      await utils.addJob(TASK, order(n));
    },
    async stop() {
      await runner.stop();
      await utils.release();
    },
  };
});
