'use strict';

// The ways that a connection can take into a worker: woken by the event loop, woken by a thread where the loop's own
// functions cannot be had, and over Node's channel where the addon cannot be loaded. Programs do not see which it was.

const test = require('node:test');
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { ask, major, mechanism, ours, until } = require('../support/index.cjs');
const { exchange, hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const byLoop = {};
const byThread = { CLUSTER_RS_WAIT: 'thread' };
const withoutAddon = { CLUSTER_RS_ADDON: '/nonexistent.node', NODE_NO_WARNINGS: '1' };

// See data-context.test.cjs.
const entersWithNone = major >= 24 || mechanism() !== 'kernel';

const ways = {
  'the event loop': [byLoop, byLoop],
  'a thread': [byThread, byThread],
  'Node\'s channel': [withoutAddon, withoutAddon],
  'each its own way': [byLoop, byThread, withoutAddon],
};

async function startOn(t, environments, options) {
  const rig = await startRig(t, { workers: 0, ...options });
  for (const env of environments) await rig.fork(1, { env });
  return rig;
}

const idsOf = (environments) => environments.map((_, i) => `${i + 1}`);

for (const [name, environments] of Object.entries(ways)) {
  test(`${name}: large bodies there and back`, ours, async (t) => {
    const rig = await startOn(t, environments, {
      serve() {
        const { createServer } = require('node:net');
        createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
      },
    });
    await Promise.all(Array.from({ length: 12 }, async (_, i) => {
      const sent = crypto.randomBytes(300_000 + i);
      assert.equal((await exchange({ port: rig.port }, sent)).equals(sent), true);
    }));
  });

  test(`${name}: connections are spread evenly`, ours, async (t) => {
    const rig = await startOn(t, environments, {
      serve(w) {
        require('node:net').createServer((socket) => socket.end(`${w.id}`)).listen(0, '127.0.0.1');
      },
    });
    // A worker that has no processor for a while leaves its turn to others; one of several tries has to be even.
    const tries = [];
    await until(async () => {
      const counts = await tally(environments.length * 50, 1, () => ask(rig.port));
      tries.push(idsOf(environments).map((id) => counts.get(id) ?? 0));
      assert.ok(tries.length <= 5, `out of 50 each: ${JSON.stringify(tries)}`);
      return tries.at(-1).every((number) => Math.abs(number - 50) <= 10);
    }, 'an even share for each');
  });

  test(`${name}: contexts are the connection's own, turns its own, and a throw is nobody else's`, ours, async (t) => {
    const rig = await startOn(t, environments, {
      serve() {
        const { AsyncLocalStorage } = require('node:async_hooks');
        const storage = new AsyncLocalStorage();
        const order = [];
        let number = 0;
        process.on('uncaughtException', () => {});
        require('node:net').createServer((socket) => {
          const own = ++number;
          const inherited = storage.getStore() ?? null;
          const before = order.at(-1) ?? null;
          storage.enterWith(own);
          order.push(`connection ${own}`);
          process.nextTick(() => order.push(`tick ${own}`));
          queueMicrotask(() => setImmediate(() => {
            socket.resume().end(JSON.stringify({ own, inherited, before, now: storage.getStore() }));
          }));
          if (own % 3 === 0) throw new Error('nobody else is to notice');
        }).listen(0, '127.0.0.1');
      },
    });
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(rig.port, `${i}`)));
    for (const { own, inherited, before, now } of answers.map((answer) => JSON.parse(answer))) {
      if (entersWithNone) assert.equal(inherited, null);
      assert.equal(now, own);
      // Where Node accepts by itself, it leaves the ticks of a handler that threw for later, as in a server without a cluster.
      const threw = mechanism() === 'kernel' && (own - 1) % 3 === 0;
      if (own === 1) assert.equal(before, null);
      else assert.ok(before === `tick ${own - 1}` || threw && before === `connection ${own - 1}`, `${own} after ${before}`);
    }
  });

  test(`${name}: maxConnections, and a worker that leaves`, ours, async (t) => {
    const rig = await startOn(t, environments, {
      serve(w) {
        const server = require('node:net').createServer((socket) => {
          socket.on('error', () => {}).resume().write(`${w.id}`);
        });
        server.maxConnections = 2;
        server.listen(0, '127.0.0.1');
      },
    });
    const places = 2 * environments.length;
    const held = await Promise.all(Array.from({ length: places }, () => hold({ port: rig.port })));
    assert.deepEqual(held.map((socket) => socket.greeting).sort(), idsOf(environments).flatMap((id) => [id, id]));
    const waiting = Array.from({ length: places }, () => hold({ port: rig.port }));
    await release(held);
    const next = await Promise.all(waiting);
    assert.deepEqual(next.map((socket) => socket.greeting).sort(), idsOf(environments).flatMap((id) => [id, id]));
    await release(next);
    await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
    await rig.event('exit', (e) => e.id === 1);
    await until(async () => {
      const socket = await hold({ port: rig.port });
      await release([socket]);
      return socket.greeting === '2';
    }, 'the others answer');
  });

  test(`${name}: a worker that is blocked and killed holds nobody up`, ours, async (t) => {
    const rig = await startOn(t, [...environments, byLoop], {
      serve(w) {
        const { createServer } = require('node:net');
        createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
      },
    });
    const last = environments.length;
    await rig.blockForEver(last);
    const answers = Array.from({ length: 24 }, () => ask(rig.port));
    // What was on its way over Node's channel comes back to the primary.
    rig.kill(last);
    for (const answer of await Promise.all(answers)) assert.match(answer, /^\d+$/);
  });
}
