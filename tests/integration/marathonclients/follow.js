// npm's marathon-event-bus-client at work: follow.js HOST PORT AUTHORIZATION TYPE...
// One line of JSON for each event, until it is ended, and for each time that it subscribed or failed.
"use strict";
const EventBusClient = require("marathon-event-bus-client");

const [host, port, authorization, ...types] = process.argv.slice(2);
const tell = (...what) => process.stdout.write(JSON.stringify(what) + "\n");
const client = new EventBusClient({
  marathonHost: host,
  marathonPort: port,
  marathonHeaders: authorization ? { Authorization: authorization } : {},
  eventTypes: types,
  handlers: Object.fromEntries(types.map((type) => [type, tell])),
});
client.on("subscribed", () => tell("subscribed"));
client.on("error", (failed) => tell("failed", failed.error.status || 0));
client.subscribe();
