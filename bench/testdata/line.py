"""A task that needs three modules: the length of the words of an item, as JSON. With an argument it runs once."""
import json
import re
import sys

import msgpack


def task(item):
    return json.dumps([len(word) for word in re.findall(r"\w+", item)])


if __name__ == "__main__" and len(sys.argv) > 1:
    msgpack.packb(sys.argv[1])
    print(task(sys.argv[1]))
