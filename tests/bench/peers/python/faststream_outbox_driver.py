"""faststream-outbox: an outbox whose rows are handled in place. Fast are more workers, larger batches, and rows that are
deleted many at a time."""

import asyncio
import logging
import warnings

from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

import contestant

QUEUE = "orders"


class Peer:
    def __init__(self, broker, engine, publisher):
        self.broker, self.engine, self.publisher = broker, engine, publisher
        self.left = "SELECT count(*) FROM orders_outbox"

    async def start(self):
        await self.broker.start()

    async def publish(self, n):
        async with self.publisher.begin() as connection:
            await self.broker.publish(contestant.order(n), queue=QUEUE, session=connection)

    async def stop(self):
        await self.broker.stop()
        await self.engine.dispose()
        await self.publisher.dispose()


async def prepare(task, handle):
    logging.disable(logging.WARNING)
    url = task.url.replace("postgres://", "postgresql+asyncpg://", 1).split("?")[0]
    # The queue's own connection to listen on is not of the pool.
    engine = create_async_engine(url, pool_size=task.pool - 1, max_overflow=0)
    publisher = create_async_engine(url, pool_size=1, max_overflow=0)
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="orders_outbox")
    async with publisher.begin() as connection:
        await connection.run_sync(metadata.create_all)
    broker = OutboxBroker(engine, outbox_table=table)
    inserts = task.mode == "processing"
    settings = {}
    if task.fast:
        # A worker keeps a connection for what it deletes, and needs another for a handler that writes.
        workers = (task.pool - 2) // (2 if inserts else 1)
        settings = {
            "max_workers": workers,
            "fetch_batch_size": 500,
            "min_fetch_interval": 0.01,
            "max_fetch_interval": 0.1,
            "terminal_flush_batch_size": 100,
        }

    @broker.subscriber(QUEUE, **settings)
    async def placed(body: dict) -> None:
        if inserts:
            async with engine.begin() as connection:
                values = {"customer": body["n"], "note": body["note"]}
                await connection.execute(text(contestant.INSERT), values)
        await handle(body["n"])

    if task.mode != "latency":
        for start in range(0, task.rows, 1000):
            bodies = [contestant.order(n) for n in range(start, min(task.rows, start + 1000))]
            async with publisher.begin() as connection:
                await broker.publish_batch(*bodies, queue=QUEUE, session=connection)
    return Peer(broker, engine, publisher)


warnings.simplefilter("ignore")
asyncio.run(contestant.compete(prepare))
