"""What shared state costs in Python: prints nanoseconds for each operation. It is measured in a child process."""
import multiprocessing as mp
import sys
import time


def loop(n, op):
    start = time.perf_counter_ns()
    for _ in range(n):
        op()
    return (time.perf_counter_ns() - start) / n


def pair(lock):
    lock.acquire()
    lock.release()


def child(what, thing, n, out):
    if what in ("manager-lock", "lock"):
        out.send(loop(n, lambda: pair(thing)))
    elif what == "manager-dict":
        out.send(loop(n, lambda: thing.__setitem__("key", 1)))
    elif what == "value":
        def add():
            with thing.get_lock():
                thing.value += 1
        out.send(loop(n, add))


def produce(queue, n):
    for i in range(n):
        queue.put(i)


def consume(queue, n, out):
    queue.get()  # both are there
    start = time.perf_counter_ns()
    for _ in range(n - 1):
        queue.get()
    out.send((time.perf_counter_ns() - start) / n)


def main():
    what, n = sys.argv[1], int(sys.argv[2])
    receiver, sender = mp.Pipe(duplex=False)
    if what in ("queue", "manager-queue"):
        manager = mp.Manager() if what == "manager-queue" else None
        queue = manager.Queue() if manager else mp.Queue()
        children = [mp.Process(target=produce, args=(queue, n)), mp.Process(target=consume, args=(queue, n, sender))]
    else:
        manager = mp.Manager() if what.startswith("manager") else None
        thing = {
            "manager-lock": lambda: manager.Lock(), "manager-dict": lambda: manager.dict(),
            "lock": mp.Lock, "value": lambda: mp.Value("q", 0),
        }[what]()
        children = [mp.Process(target=child, args=(what, thing, n, sender))]
    for process in children:
        process.start()
    print(int(receiver.recv()))
    for process in children:
        process.join()


if __name__ == "__main__":
    main()
