'use strict';

// The primary: blocked, killed, asked to disconnect all, or speaking to workers that are gone.

const test = require('node:test');
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { ask, deadline, isAlive, ours, refusal, until } = require('../support/index.cjs');
const { hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

function answerId(w) {
  require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
}

test('the primary\'s JavaScript is blocked: connections are served meanwhile', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId });
  await ask(rig.port);
  const release = await rig.blockPrimary();
  try {
    const counts = await tally(60, 3, () => ask(rig.port));
    assert.deepEqual([...counts.keys()].sort(), ['1', '2']);
  } finally {
    await release();
  }
  assert.equal((await rig.stats()).addresses[0].accepted, 61);
});

test('a worker is killed while the primary is blocked: the others answer what waited', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  await rig.blockForEver(2);
  const release = await rig.blockPrimary();
  try {
    const answers = Array.from({ length: 12 }, () => ask(rig.port));
    rig.kill(2);
    for (const answer of await Promise.all(answers)) assert.match(answer, /^[13]$/);
    assert.equal(rig.events.some((e) => e.event === 'exit'), false, 'the primary knows of nothing');
  } finally {
    await release();
  }
  await rig.event('exit', (e) => e.id === 2);
});

test('the primary is killed: all its workers go, also those with work, and the port is free', async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    serve(w) {
      require('node:net').createServer((socket) => {
        socket.on('error', () => {}).write(`${w.id}`);
      }).listen(0, '127.0.0.1');
      // Work that never ends must not keep the worker.
      setInterval(() => {}, 10);
    },
  });
  rig.expectPrimary = 'SIGKILL';
  const held = await Promise.all(Array.from({ length: 6 }, () => hold({ port: rig.port })));
  const ends = held.map((socket) => new Promise((resolve) => {
    socket.removeAllListeners('error').on('error', () => {}).once('close', resolve);
  }));
  rig.primary.kill('SIGKILL');
  await until(() => ![...rig.workerPids].some(isAlive), 'the end of all workers');
  await deadline(Promise.all(ends), 'the end of all connections');
  await until(async () => await refusal(rig.port) === 'ECONNREFUSED', 'a free port');
});

test('the primary is killed: a worker whose loop is blocked and one that is stopped go as well, and the port is free', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  rig.expectPrimary = 'SIGKILL';
  const { port } = rig;
  await rig.blockForEver(1);
  rig.kill(2, 'SIGSTOP');
  rig.primary.kill('SIGKILL');
  await until(() => ![...rig.workerPids].some(isAlive), 'the end of all workers');
  await until(async () => await refusal(port) === 'ECONNREFUSED', 'a free port');
});

// Each has a child of its own that holds whatever descriptor its server has, and outlives everybody.
function answerBesideChild(w) {
  const server = require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`));
  server.listen(0, '127.0.0.1', () => {
    const fd = server._handle.fd ?? -1;
    const stdio = ['ignore', 'ignore', 'ignore', fd >= 0 ? fd : 'ignore'];
    w.tell({ child: require('node:child_process').spawn('sleep', ['60'], { stdio }).pid });
  });
}

for (const [what, busy] of [['', false], [', whose loop is blocked,', true]]) {
  test(`the primary is killed: the child of a worker${what} does not keep the port open`, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: answerBesideChild });
    rig.expectPrimary = 'SIGKILL';
    const { port } = rig;
    const children = await Promise.all([1, 2].map(async (id) => (await rig.told((value) => value.child, id)).child));
    t.after(() => children.filter(isAlive).forEach((pid) => process.kill(pid, 'SIGKILL')));
    assert.match(await ask(port), /^[12]$/);
    if (busy) for (const id of [1, 2]) await rig.blockForEver(id);
    rig.primary.kill('SIGKILL');
    await until(() => ![...rig.workerPids].some(isAlive), 'the end of all workers');
    // Another thread of a process may let go of its descriptors after the first.
    await until(async () => await refusal(port) === 'ECONNREFUSED', 'a free port');
    assert.deepEqual(children.map(isAlive), [true, true]);
  });
}

// Its worker still answers, again and again, and ends when the client is gone.
async function finishes(rig, socket) {
  for (let i = 0; i < 15; i++) {
    const answer = once(socket, 'data');
    socket.write('x');
    assert.equal(`${(await answer)[0]}`, 'x');
  }
  socket.destroy();
  await until(() => ![...rig.workerPids].some(isAlive), 'the end of the worker');
}

test('a worker that was asked to leave finishes, though the primary is killed', async (t) => {
  const rig = await startRig(t, {
    workers: 1,
    serve(w) {
      require('node:net').createServer((socket) => {
        // One byte for one byte, a tenth of a second later.
        socket.on('error', () => {}).on('data', (bytes) => setTimeout(() => socket.write(bytes), 100)).write(`${w.id}`);
      }).listen(0, '127.0.0.1');
    },
  });
  rig.expectPrimary = 'SIGKILL';
  const socket = await hold({ port: rig.port });
  await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
  await until(async () => await refusal(rig.port) === 'ECONNREFUSED', 'the worker leaves');
  rig.primary.kill('SIGKILL');
  await finishes(rig, socket);
});

test('a worker that is leaving finishes, though the primary is killed before it has heard of it', async (t) => {
  const rig = await startRig(t, {
    workers: 1,
    serve(w) {
      const primary = process.ppid;
      const server = require('node:net').createServer((socket) => {
        socket.on('error', () => {}).on('data', (bytes) => socket.write(bytes)).write(`${w.id}`);
      }).listen(0, '127.0.0.1');
      const { close } = server;
      server.close = function closeLate(...args) {
        // Node closes the servers of a worker that leaves, and tells the primary: by now there is nobody to tell.
        process.kill(primary, 'SIGKILL');
        for (const end = Date.now() + 10_000; process.ppid === primary && Date.now() < end;);
        return Reflect.apply(close, this, args);
      };
    },
  });
  rig.expectPrimary = 'SIGKILL';
  const socket = await hold({ port: rig.port });
  const { port } = rig;
  rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); }).catch(() => {});
  await until(async () => await refusal(port) === 'ECONNREFUSED', 'the worker leaves');
  await finishes(rig, socket);
});

test('the primary exits: its workers do, too', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  rig.expectPrimary = 7;
  const { port } = rig;
  rig.inPrimary(() => { process.exit(7); }).catch(() => {});
  await until(() => ![...rig.workerPids].some(isAlive), 'the end of all workers');
  await until(async () => await refusal(port) === 'ECONNREFUSED', 'a free port');
});

test('cluster.disconnect(callback) calls back when all are gone, not when the first one is', ours, async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    serve(w) {
      require('node:net').createServer((socket) => {
        socket.on('error', () => {}).resume().write(`${w.id}`);
      }).listen(0, '127.0.0.1');
    },
  });
  // One worker has a connection, which keeps it until the client closes it.
  const socket = await hold({ port: rig.port });
  const busy = Number(socket.greeting);
  const done = rig.inPrimary((cluster) => new Promise((resolve) => {
    cluster.disconnect(() => {
      process.send({ event: 'called back', id: 0 });
      resolve(Object.keys(cluster.workers).length);
    });
  }));
  for (const id of [1, 2, 3].filter((one) => one !== busy)) await rig.event('exit', (e) => e.id === id);
  assert.equal(rig.events.some((e) => e.event === 'called back'), false, 'one worker is still there');
  await release([socket]);
  assert.equal(await done, 0);
  const order = rig.events.filter((e) => ['disconnect', 'called back'].includes(e.event)).map((e) => e.event);
  assert.deepEqual(order, ['disconnect', 'disconnect', 'disconnect', 'called back']);
  assert.equal(await refusal(rig.port), 'ECONNREFUSED');
});

test('cluster.disconnect(callback) without workers calls back, and does so each time', async (t) => {
  const rig = await startRig(t, { workers: 0, serve: answerId });
  for (let i = 0; i < 3; i++) {
    await rig.inPrimary((cluster) => new Promise((resolve) => { cluster.disconnect(resolve); }));
  }
});

test('cluster.disconnect(callback) counts a worker that is killed meanwhile as gone', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      require('node:net').createServer((socket) => {
        socket.on('error', () => {}).write(`${w.id}`);
      }).listen(0, '127.0.0.1');
    },
  });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  await rig.inPrimary((cluster) => {
    globalThis.done = new Promise((resolve) => { cluster.disconnect(resolve); });
  });
  // In rotation one worker may have both.
  const killed = held[0].greeting;
  rig.kill(Number(killed));
  await release(held.filter((socket) => socket.greeting !== killed));
  await rig.inPrimary(() => globalThis.done);
  await release(held);
});

for (const what of ['worker.disconnect()', 'cluster.disconnect()']) {
  test(`${what} when a worker has just been killed is no crash`, ours, async (t) => {
    const rig = await startRig(t, { workers: 3, serve: answerId });
    await rig.inPrimary((cluster, all) => {
      const { pid } = cluster.workers[1].process;
      process.kill(pid, 'SIGKILL');
      // It has ended, and the primary has not been told yet.
      const { readFileSync } = require('node:fs');
      while (!/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
      }
      if (all) cluster.disconnect();
      else cluster.workers[1].disconnect();
    }, what === 'cluster.disconnect()');
    await rig.event('exit', (e) => e.id === 1);
    if (what === 'worker.disconnect()') assert.match(await ask(rig.port), /^[23]$/);
    else for (const id of [2, 3]) await rig.event('exit', (e) => e.id === id);
  });
}

test('a send to a worker that is gone is no crash: false, and the callback has the error', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId });
  await rig.inPrimary((cluster) => { globalThis.old = cluster.workers[1]; });
  rig.kill(1);
  await rig.event('exit', (e) => e.id === 1);
  const results = await rig.inPrimary(async () => {
    const plain = [globalThis.old.send({ hello: 1 }), globalThis.old.send('text')];
    const error = await new Promise((resolve) => { plain.push(globalThis.old.send({ hello: 2 }, resolve)); });
    const withOptions = await new Promise((resolve) => {
      globalThis.old.send({ hello: 3 }, undefined, { keepOpen: true }, resolve);
    });
    await new Promise((resolve) => setImmediate(resolve));
    return { plain, code: error.code, isError: error instanceof Error, second: withOptions.code };
  });
  assert.deepEqual(results, {
    plain: [false, false, false], code: 'ERR_IPC_CHANNEL_CLOSED', isError: true, second: 'ERR_IPC_CHANNEL_CLOSED',
  });
  assert.equal(await ask(rig.port), '2');
});

test('a send to a worker that is just being killed is no crash either', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  await rig.inPrimary((cluster) => {
    const text = 'x'.repeat(100_000);
    const worker = cluster.workers[1];
    process.kill(worker.process.pid, 'SIGKILL');
    for (let i = 0; i < 20; i++) worker.send({ text });
    return new Promise((resolve) => {
      worker.once('exit', () => {
        worker.send({ text });
        resolve();
      });
    });
  });
  assert.deepEqual([...(await tally(20, 1, () => ask(rig.port))).keys()].sort(), ['2', '3']);
});

test('a worker can be talked to while connections pour in', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  const load = tally(300, 10, () => ask(rig.port));
  for (let i = 0; i < 40; i++) {
    assert.equal(await rig.inWorker(1 + i % 2, (w, value) => value * 2, i), i * 2);
  }
  const counts = await load;
  assert.equal(counts.get('1') + counts.get('2'), 300);
});
