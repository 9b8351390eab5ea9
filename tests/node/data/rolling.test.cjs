'use strict';

// Workers are replaced one after the other under load: no request fails.

const test = require('node:test');
const assert = require('node:assert/strict');
const http = require('node:http');
const { ask, ours } = require('../support/index.cjs');
const { request } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const ROUNDS = 6;

function serveHttp(w) {
  require('node:http').createServer((req, res) => {
    req.resume().on('end', () => setTimeout(() => res.end(`${w.id} ${req.url}`), 2));
  }).listen(0, '127.0.0.1');
}

// Replaces a worker ROUNDS times while `width` clients do `once(i)` again and again; gives what failed and who
// answered.
async function roll(rig, width, once, leave) {
  let going = true;
  let number = 0;
  const failures = [];
  const workers = new Set();
  const rolling = (async () => {
    for (let id = 1; id <= ROUNDS; id++) {
      await rig.fork(1);
      await leave(id);
      const { code, signal } = await rig.event('exit', (e) => e.id === id);
      assert.deepEqual([code, signal], [0, null]);
    }
  })().finally(() => { going = false; });
  await Promise.all([rolling, ...Array.from({ length: width }, async () => {
    while (going) {
      const i = ++number;
      try {
        workers.add(await once(i));
      } catch (error) {
        failures.push(`${i}: ${error.code || error.message}`);
      }
    }
  })]);
  return { number, failures, workers };
}

const byPrimary = (rig) => (id) => rig.inPrimary((cluster, one) => { cluster.workers[one].disconnect(); }, id);
// The worker's answer to this request can come after it has left.
const byWorker = (rig) => (id) => rig.inPrimary((cluster, one) => {
  cluster.workers[one].send({ rigLeave: true });
}, id);

function check(t, { number, failures, workers }) {
  t.diagnostic(`${number} requests, ${failures.length} failed, ${workers.size} workers`);
  assert.deepEqual(failures, []);
  assert.ok(workers.size >= ROUNDS, `${workers.size} workers answered`);
}

for (const [who, leave] of [['the primary', byPrimary], ['the worker itself', byWorker]]) {
  // Node closes also connections whose request is still on its way; a request can fail then.
  test(`a connection for each request, disconnected by ${who}: 0 failed`, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: serveHttp });
    check(t, await roll(rig, 6, async (i) => {
      const { status, body } = await request({ port: rig.port, path: `/${i}`, agent: false });
      assert.equal(status, 200);
      const [id, url] = String(body).split(' ');
      assert.equal(url, `/${i}`);
      return id;
    }, leave(rig)));
  });

  test(`keep-alive, disconnected by ${who}: 0 failed`, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: serveHttp });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 6 });
    let reused = 0;
    try {
      check(t, await roll(rig, 6, async (i) => {
        const answer = await request({ port: rig.port, path: `/${i}`, method: 'POST', agent }, `body ${i}`);
        if (answer.reused) reused++;
        assert.equal(answer.status, 200);
        const [id, url] = String(answer.body).split(' ');
        assert.equal(url, `/${i}`);
        return id;
      }, leave(rig)));
    } finally {
      agent.destroy();
    }
    assert.ok(reused > 0, 'connections were used again');
  });
}

test('plain connections with a slow handler: all that were taken are finished', async (t) => {
  const rig = await startRig(t, {
    workers: 2,
    serve(w) {
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => {}).resume().on('end', () => setTimeout(() => socket.end(`${w.id}`), 30));
      }).listen(0, '127.0.0.1');
    },
  });
  check(t, await roll(rig, 8, async () => {
    const id = await ask(rig.port, 'x');
    assert.match(id, /^\d+$/);
    return id;
  }, byPrimary(rig)));
});

test('a worker that leaves while connections wait for it gives them to the others', ours, async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
    },
  });
  for (let round = 0; round < 4; round++) {
    const id = round + 1;
    const napping = rig.inWorker(id, (w) => {
      w.tell({ napping: w.id });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
      w.cluster.worker.disconnect();
    });
    await rig.told((value) => value.napping === id);
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(rig.port)));
    assert.equal(answers.every((answer) => /^\d+$/.test(answer)), true);
    await napping.catch(() => {});
    await rig.event('exit', (e) => e.id === id);
    await rig.fork(1);
  }
});

test('two workers leave at the same time: clients meet only them or their successors', ours, async (t) => {
  const rig = await startRig(t, { serve: serveHttp });
  await rig.fork(2);
  let going = true;
  const load = Promise.all(Array.from({ length: 4 }, async () => {
    while (going) assert.equal((await request({ port: rig.port, agent: false })).status, 200);
  }));
  await rig.inPrimary((cluster) => {
    cluster.workers[1].disconnect();
    cluster.workers[2].disconnect();
  });
  await Promise.all([1, 2].map((id) => rig.event('exit', (e) => e.id === id)));
  going = false;
  await load;
});
