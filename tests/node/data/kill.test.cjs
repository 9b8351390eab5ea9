'use strict';

// Workers that are killed, stopped or blocked while connections wait for them: nobody hangs.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ask, exactTurns, mechanism, ours, refusal, request, until } = require('../support/index.cjs');
const { exchange, hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

function answerId(w) {
  require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
}

test('what waits for a blocked worker is answered by the others, also after it is killed', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  await rig.blockForEver(1);
  const before = await tally(30, 6, () => ask(rig.port));
  assert.equal(before.has('1'), false);
  const during = tally(60, 12, () => ask(rig.port));
  rig.kill(1);
  const counts = await during;
  assert.equal(counts.has('1'), false);
  assert.equal([...counts.values()].reduce((sum, number) => sum + number), 60);
  const { addresses: [address] } = await rig.stats();
  assert.equal(address.lost, 0);
});

test('the killed worker was the only one to have been offered them: its successor answers', ours, async (t) => {
  const rig = await startRig(t, { workers: 1, serve: answerId, env: exactTurns() });
  await rig.blockForEver(1);
  const answers = Array.from({ length: 10 }, () => ask(rig.port));
  await until(async () => (await rig.stats()).workers[0].waiting > 0, 'some wait for the worker');
  rig.kill(1);
  await rig.event('exit', (e) => e.id === 1);
  await rig.fork(1);
  assert.deepEqual(await Promise.all(answers), Array(10).fill('2'));
});

test('a connection that the killed worker had taken ends at once', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      require('node:net').createServer((socket) => socket.write(`${w.id}`)).listen(0, '127.0.0.1');
    },
  });
  const held = await Promise.all(Array.from({ length: 10 }, () => hold({ port: rig.port })));
  const own = held.filter((socket) => socket.greeting === '1');
  const others = held.filter((socket) => socket.greeting !== '1');
  assert.ok(own.length > 0 && others.length > 0);
  const ends = own.map((socket) => new Promise((resolve) => {
    socket.removeAllListeners('error').on('error', () => {}).once('close', resolve);
  }));
  rig.kill(1);
  await Promise.all(ends);
  for (const socket of others) assert.equal(socket.destroyed, false);
  await release(held);
});

// Ends: 'answered by <id>', or the error of a client whose connection had been taken by a worker that died.
async function outcome(port) {
  try {
    const text = String(await exchange({ port }, 'x'));
    return text === '' ? 'cut' : 'answered';
  } catch (error) {
    assert.match(String(error.code), /^(ECONNRESET|EPIPE)$/, error.message);
    return 'cut';
  }
}

test('SIGKILL again and again under load: clients are answered or cut, none hangs or is refused', ours, async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    serve(w) {
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => {}).resume().on('end', () => setImmediate(() => socket.end(`${w.id}`)));
      }).listen(0, '127.0.0.1');
    },
  });
  let going = true;
  const kills = 12;
  const killer = (async () => {
    for (let i = 1; i <= kills; i++) {
      rig.kill(i);
      await rig.event('exit', (e) => e.id === i);
      await rig.fork(1);
    }
    going = false;
  })();
  const counts = { answered: 0, cut: 0 };
  await Promise.all([killer, ...Array.from({ length: 8 }, async () => {
    while (going) counts[await outcome(rig.port)]++;
  })]);
  t.diagnostic(`${kills} kills, ${counts.answered} answered, ${counts.cut} cut`);
  assert.ok(counts.answered > counts.cut);
  const { addresses: [address] } = await rig.stats();
  const uncounted = counts.answered + counts.cut - address.accepted;
  // In rotation the workers count, each after it has accepted: one that is killed in between has not.
  const most = mechanism() === 'rotation' ? kills : 0;
  assert.ok(uncounted >= 0 && uncounted <= most, `each connection was accepted once: ${uncounted} were not counted`);
  assert.equal(address.lost, 0);
});

test('a worker that is stopped leaves its turn to the others and is back after SIGCONT', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  await tally(12, 1, () => ask(rig.port));
  rig.kill(2, 'SIGSTOP');
  const counts = await tally(90, 9, () => ask(rig.port));
  assert.equal(counts.has('2'), false, 'a stopped worker answers nobody');
  assert.equal(counts.get('1') + counts.get('3'), 90);
  rig.kill(2, 'SIGCONT');
  await until(async () => await ask(rig.port) === '2', 'the worker answers again');
  if (mechanism() === 'rotation') {
    // There it gets what it has missed, too.
    const all = new Map(counts).set('2', 1);
    await until(async () => {
      const id = await ask(rig.port);
      all.set(id, all.get(id) + 1);
      return Math.max(...all.values()) - Math.min(...all.values()) <= 8;
    }, 'the worker has caught up');
    return;
  }
  const after = await tally(90, 1, () => ask(rig.port));
  for (const id of ['1', '2', '3']) assert.ok(after.get(id) >= 20, `worker ${id} got ${after.get(id)} of 30`);
});

test('all workers stopped: the clients wait, and are all served after SIGCONT', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  rig.kill(1, 'SIGSTOP');
  rig.kill(2, 'SIGSTOP');
  const answers = Array.from({ length: 20 }, () => ask(rig.port));
  rig.kill(2, 'SIGCONT');
  rig.kill(1, 'SIGCONT');
  for (const answer of await Promise.all(answers)) assert.match(answer, /^[12]$/);
});

test('a stopped worker that is killed has lost nothing', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId });
  rig.kill(1, 'SIGSTOP');
  const answers = Array.from({ length: 20 }, () => ask(rig.port));
  rig.kill(1);
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['2']));
});

test('a worker that dies while its listening is being set up harms nobody', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  for (let i = 0; i < 6; i++) {
    const [id] = await rig.request('fork', { count: 1, env: { RIG_SERVE: String(() => {
      require('node:net').createServer(() => {}).listen(0, '127.0.0.1');
      process.kill(process.pid, 'SIGKILL');
    }) } });
    await rig.event('exit', (e) => e.id === id && e.signal === 'SIGKILL');
    const counts = await tally(mechanism() === 'rotation' ? 80 : 8, 2, () => ask(rig.port));
    assert.deepEqual([...counts.keys()].sort(), ['1', '2']);
  }
});

test('the first worker of an address dies while its listening is being set up: the next one opens it', async (t) => {
  const rig = await startRig(t, { workers: 0, serve: answerId });
  const [first] = await rig.request('fork', { count: 1, env: { RIG_SERVE: String(() => {
    require('node:net').createServer(() => {}).listen(0, '127.0.0.1');
    process.kill(process.pid, 'SIGKILL');
  }) } });
  await rig.event('exit', (e) => e.id === first);
  await rig.fork(2);
  const counts = await tally(mechanism() === 'rotation' ? 200 : 20, 1, () => ask(rig.port));
  assert.deepEqual([...counts.keys()].sort(), ['2', '3']);
});

test('the last worker leaves gracefully: the address is refused at once', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  const { port } = rig;
  await tally(4, 1, () => ask(port));
  for (const id of [1, 2]) {
    await rig.inPrimary((cluster, one) => { cluster.workers[one].disconnect(); }, id);
    await rig.event('exit', (e) => e.id === id);
  }
  assert.equal(await refusal(port), 'ECONNREFUSED');
});

test('the last two workers leave gracefully at the same time: the address is refused at once', async (t) => {
  const rig = await startRig(t, { workers: 0, serve: answerId });
  for (let round = 0; round < 10; round++) {
    const ids = await rig.fork(2);
    const { port } = rig.events.findLast((e) => e.event === 'listening').address;
    assert.match(await ask(port), /^\d+$/);
    await rig.inPrimary((cluster) => {
      for (const worker of Object.values(cluster.workers)) worker.disconnect();
    });
    for (const id of ids) await rig.event('exit', (e) => e.id === id);
    assert.equal(await refusal(port), 'ECONNREFUSED', `round ${round}`);
  }
});

test('the last server of a port is closed in the worker: the port is refused, the worker lives', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      w.server = require('node:net').createServer((socket) => socket.end('x')).listen(0, '127.0.0.1');
    },
  });
  const { port } = rig;
  for (const id of [1, 2]) await rig.inWorker(id, (w) => new Promise((resolve) => { w.server.close(resolve); }));
  await until(async () => await refusal(port) === 'ECONNREFUSED', 'the port is closed');
  for (const id of [1, 2]) assert.equal(await rig.inWorker(id, (w) => w.id), id);
});

test('the only worker crashes, a new one is forked in \'exit\': it serves who connects meanwhile', ours, async (t) => {
  const rig = await startRig(t, { workers: 1, serve: answerId });
  await rig.inPrimary((cluster) => {
    cluster.on('exit', (worker) => worker.exitedAfterDisconnect || cluster.fork(globalThis.workerSetup));
  });
  const { port } = rig;
  for (let i = 1; i <= 4; i++) {
    rig.kill(i);
    const answers = Array.from({ length: 10 }, () => ask(port));
    const seen = new Set(await Promise.all(answers));
    // One that the dying worker had just taken would have failed; the others belong to its successor.
    assert.deepEqual(seen, new Set([`${i + 1}`]));
    assert.equal(rig.events.filter((e) => e.event === 'exit').length, i);
  }
});

test('http: requests survive the death of a worker that had not taken their connections', ours, async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    serve(w) {
      require('node:http').createServer((req, res) => res.end(`${w.id}`)).listen(0, '127.0.0.1');
    },
  });
  await rig.blockForEver(3);
  const answers = Array.from({ length: 40 }, () => request(rig.port));
  rig.kill(3);
  for (const { body } of await Promise.all(answers)) assert.match(body, /^[12]$/);
});
