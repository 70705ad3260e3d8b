import sys
import time

import order
from huey import SqliteHuey

huey = SqliteHuey(
    filename=order.URL.removeprefix("sqlite:///"), fsync=True, results=False
)
engine = order.engine()


@huey.task()
def pay(id):
    order.pay_now(id, engine)


@huey.task()
def noop(id):
    order.mark_start()


def install():
    order.create_table()


def enqueue(kind, count):
    ids = order.new_orders(count) if kind == "W4" else range(count)
    began = time.perf_counter()
    for id in ids:
        (pay if kind == "W4" else noop)(id)
    order.say_rate(count, began)


def work():
    huey.create_consumer(workers=1, periodic=False, max_delay=0.1).run()


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            install()
        case "enqueue":
            enqueue(sys.argv[2], int(sys.argv[3]))
        case "work":
            work()
