import sys
import time
from datetime import timedelta

import asyncpg
import order
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries


async def install():
    order.create_table()
    async with asyncpg.create_pool(order.URL) as pool:
        await Queries(AsyncpgPoolDriver(pool)).install()


async def enqueue(kind, count):
    async with asyncpg.create_pool(order.URL) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        if kind == "W1":
            began = time.perf_counter()
            for number in range(count):
                await queries.enqueue("noop", str(number).encode())
            order.say_rate(count, began)
            return
        ids = range(count) if kind == "W3" else order.new_orders(count)
        name = "noop" if kind == "W3" else "pay"
        await queries.enqueue(
            [name] * count, [str(id).encode() for id in ids], [0] * count
        )


async def work():
    async with asyncpg.create_pool(order.URL, min_size=2, max_size=20) as pool:
        pgq = PgQueuer(AsyncpgPoolDriver(pool))

        @pgq.entrypoint("pay")
        async def pay(job):
            await order.pay(int(job.payload))

        @pgq.entrypoint("noop")
        async def noop(job):
            order.mark_start()

        batch = 20 if order.IS_ORDER else 100
        await pgq.run(dequeue_timeout=timedelta(seconds=1), batch_size=batch)


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            uvloop.run(install())
        case "enqueue":
            uvloop.run(enqueue(sys.argv[2], int(sys.argv[3])))
        case "work":
            uvloop.run(work())
