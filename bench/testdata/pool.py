"""The same work in Python's pools: prints the seconds that it took, without the start of the processes.

    pool.py map N CHUNK         Pool.map of N ints; CHUNK 0 lets it choose
    pool.py executor N          ProcessPoolExecutor.map of N ints
    pool.py values N SIZE       Pool.map of N values of SIZE bytes, which come back
    pool.py apply N             N times Pool.apply, one after the other
    pool.py slow PLACE          144 calls of 1 ms and 16 of 100 ms, 4 workers; PLACE of the slow ones: first, last
"""
import concurrent.futures
import multiprocessing
import sys
import time


def square(n):
    return n * n


def same(value):
    return value


def snooze(ms):
    time.sleep(ms / 1000)
    return ms


def timed(f):
    start = time.perf_counter()
    f()
    print(time.perf_counter() - start)


def main(what, *args):
    if what == "executor":
        n = int(args[0])
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            list(pool.map(square, range(100)))
            timed(lambda: list(pool.map(square, range(n))))
        return
    with multiprocessing.Pool(4 if what == "slow" else 2) as pool:
        pool.map(square, range(100))
        if what == "map":
            n, chunk = map(int, args)
            items = list(range(n))
            timed(lambda: pool.map(square, items, chunksize=chunk or None))
        elif what == "values":
            n, size = map(int, args)
            items = [bytes(size)] * n
            timed(lambda: pool.map(same, items, chunksize=1))
        elif what == "apply":
            timed(lambda: [pool.apply(square, (i,)) for i in range(int(args[0]))])
        elif what == "slow":
            items = [1] * 144 + [100] * 16
            if args[0] == "first":
                items.reverse()
            timed(lambda: pool.map(snooze, items))
        else:
            sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
