import asyncio
import sys
import time

import order
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=order.URL, max_size=20))


@app.task(name="pay", queue="orders")
async def pay(id):
    await order.pay(id)


@app.task(name="noop", queue="orders")
async def noop(id):
    order.mark_start()


async def install():
    order.create_table()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue(kind, count):
    async with app.open_async():
        if kind == "W1":
            began = time.perf_counter()
            for number in range(count):
                await noop.defer_async(id=number)
            order.say_rate(count, began)
        elif kind == "W3":
            await noop.batch_defer_async(*[{"id": number} for number in range(count)])
        else:
            await pay.batch_defer_async(
                *[{"id": number} for number in order.new_orders(count)]
            )


async def work():
    async with app.open_async():
        await app.run_worker_async(concurrency=5, wait=True)


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            asyncio.run(install())
        case "enqueue":
            asyncio.run(enqueue(sys.argv[2], int(sys.argv[3])))
        case "work":
            asyncio.run(work())
