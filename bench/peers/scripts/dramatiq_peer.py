import os
import sys
import time

import dramatiq
import order
from dramatiq.brokers.redis import RedisBroker
from dramatiq.cli import main, make_argument_parser

dramatiq.set_broker(RedisBroker(url=os.environ["STATEJOBS_BENCH_REDIS"]))
engine = order.engine()


@dramatiq.actor(queue_name="orders")
def pay(id):
    order.pay_now(id, engine)


@dramatiq.actor(queue_name="orders")
def noop(id):
    order.mark_start()


def install():
    order.create_table()


def enqueue(kind, count):
    ids = order.new_orders(count) if kind == "W4" else range(count)
    began = time.perf_counter()
    for id in ids:
        (pay if kind == "W4" else noop).send(id)
    order.say_rate(count, began)


def work():
    words = ["dramatiq_peer", "-p", "1", "-t", "8", "--skip-logging"]
    sys.exit(main(make_argument_parser().parse_args(words)))


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            install()
        case "enqueue":
            enqueue(sys.argv[2], int(sys.argv[3]))
        case "work":
            work()
