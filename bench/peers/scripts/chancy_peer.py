import asyncio
import sys
import time

import order
from chancy import Chancy, Job, Queue, Worker


async def pay(*, id: int):
    await order.pay(id)


async def noop(*, id: int):
    order.mark_start()


def jobs(func, ids):
    name = f"chancy_peer.{func.__name__}"  # this file runs as __main__
    return [Job(func=name, kwargs={"id": id}, queue="orders") for id in ids]


async def install():
    order.create_table()
    async with Chancy(order.URL) as chancy:
        await chancy.migrate()


async def enqueue(kind, count):
    async with Chancy(order.URL) as chancy:
        if kind == "W1":
            began = time.perf_counter()
            for job in jobs(noop, range(count)):
                await chancy.push(job)
            order.say_rate(count, began)
            return
        func, ids = (
            (noop, range(count)) if kind == "W3" else (pay, order.new_orders(count))
        )
        async for _ in chancy.push_many(jobs(func, ids)):
            pass


async def work():
    async with Chancy(order.URL, max_connection_pool_size=20) as chancy:
        queue = Queue(
            "orders",
            concurrency=20 if order.IS_ORDER else 100,
            executor=Chancy.Executor.Async,
            eager_polling=True,
            polling_interval=1,
        )
        await chancy.declare(queue, upsert=True)
        async with Worker(chancy) as worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            asyncio.run(install())
        case "enqueue":
            asyncio.run(enqueue(sys.argv[2], int(sys.argv[3])))
        case "work":
            asyncio.run(work())
