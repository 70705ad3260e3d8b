import asyncio
import sys
import time

import order
from oban import Oban, schema, worker


@worker(queue="orders")
class Pay:
    async def process(self, job):
        await order.pay(job.args["id"])


@worker(queue="orders")
class Noop:
    async def process(self, job):
        order.mark_start()


async def install():
    order.create_table()
    pool = await Oban.create_pool(order.URL)
    await schema.install(pool)
    await pool.close()


async def enqueue(kind, count):
    pool = await Oban.create_pool(order.URL)
    async with Oban(pool=pool) as oban:
        if kind == "W1":
            began = time.perf_counter()
            for number in range(count):
                await oban.enqueue(Noop.new({"id": number}))
            order.say_rate(count, began)
        elif kind == "W3":
            await oban.enqueue_many([Noop.new({"id": n}) for n in range(count)])
        else:
            await oban.enqueue_many(
                [Pay.new({"id": n}) for n in order.new_orders(count)]
            )
    await pool.close()


async def work():
    pool = await Oban.create_pool(order.URL, max_size=20)
    async with Oban(pool=pool, queues={"orders": 10 if order.IS_ORDER else 50}):
        await asyncio.Event().wait()


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            asyncio.run(install())
        case "enqueue":
            asyncio.run(enqueue(sys.argv[2], int(sys.argv[3])))
        case "work":
            asyncio.run(work())
