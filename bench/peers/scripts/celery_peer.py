import os
import sys
import time

import order
from celery import Celery

app = Celery("celery_peer", broker=os.environ["STATEJOBS_BENCH_REDIS"])
app.conf.update(
    task_default_queue="orders",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=10,
)
engine = order.engine()


@app.task(name="pay")
def pay(id):
    order.pay_now(id, engine)


@app.task(name="noop")
def noop(id):
    order.mark_start()


def install():
    order.create_table()


def enqueue(kind, count):
    ids = order.new_orders(count) if kind == "W4" else range(count)
    began = time.perf_counter()
    for id in ids:
        (pay if kind == "W4" else noop).delay(id)
    order.say_rate(count, began)


def work():
    app.worker_main(
        ["worker", "-P", "prefork", "-c", "1", "-l", "error", "-n", f"w{os.getpid()}"]
    )


if __name__ == "__main__":
    match sys.argv[1]:
        case "install":
            install()
        case "enqueue":
            enqueue(sys.argv[2], int(sys.argv[3]))
        case "work":
            work()
