"""Fills the SQLite database of the walk: six hours of traffic, and what has gone wrong. Prints the ids that the walk needs.

The same each time, but for the clock and the ids.
"""

import json
import random
import sqlite3
import sys
import time
import uuid

random.seed(7)
database = sqlite3.connect(sys.argv[1])
NOW = int(time.time() * 1000)
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
NAMES = ["ordering.order-placed", "ordering.order-cancelled", "billing.card-charged", "shipping.parcel-sent"]


def insert(table, **columns):
    names = ", ".join(columns)
    places = ", ".join("?" * len(columns))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(columns.values()))


def settled(count, mean, table):
    """Events of the last six hours, most of them of late, each after its wait."""
    for n in range(count):
        at = NOW - int(random.triangular(0, 6 * HOUR, 10 * MINUTE))
        written = at - int(random.lognormvariate(mean, 0.8))
        row = {"id": uuid.uuid4().bytes, "event_type": random.choice(NAMES), "event_data": json.dumps({"order_id": n})}
        row |= {"processed_at": at, "session_id": f"order-{n}", "correlation_id": str(uuid.uuid4())}
        if table == "outbox":
            insert(table, **row, status="sent", topic="orders", created_at=written)
        else:
            subscription = random.choice(["billing", "shipping"])
            row |= {"message_id": f"m{n}", "shard": n % 64, "received_at": written, "subscription": subscription}
            insert(table, **row, status="processed")


def received(subscription, state, written, **columns):
    event = {"subscription": subscription, "id": uuid.uuid4().bytes, "message_id": "m", "event_type": NAMES[0]}
    event |= {"event_data": "{}", "shard": 3, "received_at": NOW - written, "status": state}
    event |= {"processed_at": NOW - written // 2} if state == "dead" else {}
    insert("inbox", **(event | columns))


settled(4_000, 3, "outbox")
settled(3_000, 4, "inbox")

# An order whose card has expired, with what belongs to it.
placed, correlation = uuid.uuid4(), str(uuid.uuid4())
body = json.dumps({"order_id": 4711, "total_cents": 4200, "customer": {"name": "Ada", "city": "Zürich"}})
headers = json.dumps({"tenant": "acme"})
order = {"id": placed.bytes, "event_data": body, "session_id": "order-4711", "correlation_id": correlation, "headers": headers}
insert("outbox", **order, event_type=NAMES[0], topic="orders", status="sent", created_at=NOW - 50 * SECOND, processed_at=NOW - 49 * SECOND)
received("billing", "dead", 48 * SECOND, **order, attempts=8, last_error="the card has expired")
reminder = {"id": uuid.uuid4().bytes, "event_type": "billing.reminder-due", "event_data": "{}", "topic": "payments"}
insert("outbox", **reminder, correlation_id=correlation, causation_id=str(placed), created_at=NOW - 20 * SECOND)

for n in range(6):
    received("billing", "dead", 15 * MINUTE + n * SECOND, session_id=f"order-{n}", attempts=8, last_error="the card has expired")
for n in range(17):
    received("shipping", "pending", 4 * SECOND + n, event_type=NAMES[2], shard=n, session_id=f"order-{n}")

# Somebody means harm, wherever text comes from.
evil = uuid.uuid4()
attack = "\"><script>window.evil=1</script><img src=x onerror=window.evil=1>"
received(attack, "dead", HOUR, id=evil.bytes, message_id=attack, event_type=attack, event_data=attack, session_id=attack,
         headers=json.dumps({attack: attack}), correlation_id=attack, causation_id=attack, topic=attack, last_error=attack)
insert("outbox", id=uuid.uuid4().bytes, event_type=attack, event_data=attack, lane=attack, session_id=attack, topic=attack,
       status="dead", last_error=attack, created_at=NOW - HOUR, processed_at=NOW - HOUR)

holders = [uuid.uuid4().bytes for _ in range(3)]
for shard in range(64):
    for subscription in ("billing", "shipping"):
        owner = holders[shard % 3] if shard != 9 else None
        insert("distributed_events_leases", name=f"inbox:{subscription}:{shard:02}", owner=owner, epoch=2, until=NOW + HOUR, unclean=0)
insert("distributed_events_leases", name="outbox:default", owner=holders[0], epoch=3, until=NOW + HOUR, unclean=0, broker="service-bus:shop.servicebus.windows.net")
insert("distributed_events_leases", name=f"outbox:{attack}", owner=holders[0], epoch=1, until=NOW + HOUR, unclean=1, broker=attack)
handles = [("billing", NAMES[0]), ("billing", NAMES[1]), ("shipping", NAMES[2]), (attack, attack)]
for instance in holders[:2]:
    handled = json.dumps([{"subscription": subscription, "event": event, "version": 1} for subscription, event in handles])
    insert("distributed_events_instances", id=instance, until=NOW + HOUR, lasts=HOUR, handles=handled)
for topic, name, events in [("orders", "billing", NAMES[:2]), ("payments", "shipping", NAMES[2:3]), ("orders", "audit", NAMES[:1]), (attack, attack, [attack])]:
    insert("distributed_events_subscriptions", store="a store", topic=topic, name=name, events=json.dumps(events))
database.commit()
print(placed, evil)
