"""Marathon's client of PyPI at work: follow.py URL [--raw] [--user U --password P] [TYPE ...]

One line of JSON for each event, until it is ended: what event_stream() yields; or how that failed.
"""

import argparse
import json
import sys

from marathon import MarathonClient

told, sys.stdout = sys.stdout, sys.stderr  # it prints warnings of its own


def tell(what) -> None:
    print(json.dumps(what, default=vars), file=told, flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--raw", action="store_true")
parser.add_argument("--user")
parser.add_argument("--password")
parser.add_argument("url")
parser.add_argument("types", nargs="*")
asked = parser.parse_intermixed_args()

client = MarathonClient(asked.url, username=asked.user, password=asked.password)
try:
    for event in client.event_stream(raw=asked.raw, event_types=asked.types):
        tell(event if asked.raw else [type(event).__name__, event])
    tell("the end")
except Exception as error:  # noqa: BLE001
    tell([type(error).__name__, str(error)])
