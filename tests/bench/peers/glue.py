"""What people write today to get Nomad's events into Kafka and Redis: aiohttp, confluent-kafka, redis-py.

    glue.py URL NAME [--kafka BROKERS] [--redis URL]

Written with care, and not for speed at any price: reads what is there, takes lines apart, sends pipelines of 128, hands
the producer its time. No journal, no checkpoint: what is on its way when it ends is lost or comes again.
"""

import argparse
import asyncio
import json
import signal

import aiohttp
import confluent_kafka
import redis.asyncio

BATCH = 128
MAX_ENTRIES = 20000


class ToKafka:
    def __init__(self, brokers: str, name: str):
        self.name = name
        settings = {"bootstrap.servers": brokers, "compression.type": "lz4", "linger.ms": 50}
        self.producer = confluent_kafka.Producer(settings)

    def add(self, event: dict, text: str) -> None:
        topic = f"{self.name}.{event['Topic']}"
        while True:
            try:
                return self.producer.produce(topic, text, event["Key"], on_delivery=self.delivered)
            except BufferError:
                self.producer.poll(0.1)

    @staticmethod
    def delivered(error, _message) -> None:
        if error:
            raise confluent_kafka.KafkaException(error)

    async def flush(self) -> None:
        self.producer.poll(0)

    async def close(self) -> None:
        self.producer.flush(10)


class ToRedis:
    def __init__(self, url: str, name: str):
        self.name = name
        self.client = redis.asyncio.Redis.from_url(url)
        self.pipeline = self.client.pipeline(transaction=False)

    def add(self, event: dict, text: str) -> None:
        stream, fields = f"{self.name}:{event['Topic']}", {"key": event["Key"], "data": text}
        self.pipeline.xadd(stream, fields, maxlen=MAX_ENTRIES, approximate=True)

    async def flush(self) -> None:
        await self.pipeline.execute()

    async def close(self) -> None:
        await self.flush()
        await self.client.aclose()


async def take(lines: list[bytes], sinks: list) -> None:
    events = [event for line in lines for event in json.loads(line).get("Events") or ()]
    for at in range(0, len(events), BATCH):
        for event in events[at : at + BATCH]:
            text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
            for sink in sinks:
                sink.add(event, text)
        for sink in sinks:
            await sink.flush()


async def bridge(url: str, sinks: list) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 20) as session:
        async with session.get(f"{url}/v1/event/stream", params={"topic": "*", "index": "0"}) as response:
            response.raise_for_status()
            rest = b""
            while piece := await response.content.readany():
                *lines, rest = (rest + piece).split(b"\n")
                await take(lines, sinks)


async def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("url")
    words.add_argument("name")
    words.add_argument("--kafka")
    words.add_argument("--redis")
    args = words.parse_args()
    sinks = [ToKafka(args.kafka, args.name)] if args.kafka else []
    sinks += [ToRedis(args.redis, args.name)] if args.redis else []
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await bridge(args.url, sinks)
    finally:
        for sink in sinks:
            await sink.close()


if __name__ == "__main__":
    asyncio.run(main())
