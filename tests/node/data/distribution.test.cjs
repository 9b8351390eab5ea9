'use strict';

// Who gets the connections, and what cluster.stats() says about it.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ask, exactTurns, isStock, mechanism, ours, until } = require('../support/index.cjs');
const { hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

function answerId(w) {
  require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
}

// Keeps the connection until the client closes it.
function keep(w) {
  require('node:net').createServer((socket) => {
    socket.on('error', () => {}).resume().write(`${w.id}`);
  }).listen(0, '127.0.0.1');
}

for (const workers of [2, 3, 4]) {
  test(`one after the other: ${workers * 100} connections are spread evenly over ${workers} workers`, async (t) => {
    const rig = await startRig(t, { workers, serve: answerId });
    const counts = await tally(workers * 100, 1, () => ask(rig.port));
    assert.equal(counts.size, workers);
    // A worker that has no processor for a while leaves its turn to others.
    for (const [id, number] of counts) assert.ok(Math.abs(number - 100) <= 25, `worker ${id} got ${number} of 100`);
  });
}

test('many at a time: every worker gets its part', async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  const counts = await tally(900, 30, () => ask(rig.port));
  assert.equal(counts.size, 3);
  // How much a worker can do at a time is up to the machine; none may be left out.
  for (const [id, number] of counts) assert.ok(number >= 75, `worker ${id} got ${number} of 300`);
});

test('held connections are spread evenly', async (t) => {
  const rig = await startRig(t, { workers: 4, serve: keep });
  const held = [];
  for (let i = 0; i < 80; i++) held.push(await hold({ port: rig.port }));
  for (const id of [1, 2, 3, 4]) {
    const own = held.filter((socket) => socket.greeting === `${id}`).length;
    assert.ok(Math.abs(own - 20) <= 5, `worker ${id} holds ${own} of 20`);
  }
  await release(held);
});

test('two addresses are distributed each by itself', async (t) => {
  const rig = await startRig(t, {
    listeners: 2,
    serve(w) {
      const { createServer } = require('node:net');
      const servers = [0, 1].map(() => createServer((socket) => socket.end(`${w.id}`)).listen(0, '127.0.0.1'));
      w.ports = () => servers.map((server) => server.address().port);
    },
  });
  const ports = await rig.inWorker(1, (w) => w.ports());
  const counts = [new Map(), new Map()];
  for (let i = 0; i < 200; i++) {
    const id = await ask(ports[i % 2]);
    counts[i % 2].set(id, (counts[i % 2].get(id) || 0) + 1);
  }
  for (const own of counts) {
    for (const id of ['1', '2']) assert.ok(Math.abs(own.get(id) - 50) <= 15, `worker ${id} got ${own.get(id)} of 50`);
  }
});

test('a worker that comes later gets its share, one that left gets none', async (t) => {
  const rig = await startRig(t, { serve: answerId });
  await tally(20, 1, () => ask(rig.port));
  await rig.fork(1);
  const three = await tally(150, 1, () => ask(rig.port));
  for (const id of ['1', '2', '3']) {
    assert.ok(Math.abs(three.get(id) - 50) <= 15, `worker ${id} got ${three.get(id)} of 50`);
  }
  await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
  await rig.event('exit', (e) => e.id === 1);
  const two = await tally(100, 1, () => ask(rig.port));
  assert.deepEqual([...two.keys()].sort(), ['2', '3']);
});

test('SCHED_NONE: every connection is answered, by Node\'s own way', async (t) => {
  const rig = await startRig(t, { env: { NODE_CLUSTER_SCHED_POLICY: 'none' }, serve: answerId });
  const counts = await tally(100, 4, () => ask(rig.port));
  for (const id of counts.keys()) assert.ok(['1', '2'].includes(id));
  if (!isStock) assert.deepEqual((await rig.stats()).addresses, [], 'the engine has no part in it');
});

test('stats: what was delivered adds up to the connections that were made', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  const counts = await tally(150, 5, () => ask(rig.port));
  // The number is taken when a worker has fetched a connection, which is a little before the client has its answer.
  const stats = await until(async () => {
    const now = await rig.stats();
    return now.workers.every(({ waiting }) => waiting === 0) && now;
  }, 'nothing waits any more');
  assert.deepEqual(stats.workers.map(({ id }) => id), [1, 2, 3]);
  for (const worker of stats.workers) {
    assert.deepEqual(Object.keys(worker).sort(), ['delivered', 'generation', 'id', 'load', 'pid', 'ready', 'slot', 'state', 'waiting']);
    assert.equal(worker.pid, rig.pid(worker.id));
    assert.equal(worker.state, 'listening');
    assert.equal(worker.slot, worker.id - 1);
    assert.equal(worker.delivered, counts.get(`${worker.id}`));
  }
  assert.equal(stats.addresses.length, 1);
  const [address] = stats.addresses;
  assert.match(address.address, new RegExp(`\\b${rig.port}$`));
  // A worker that had no processor for a while may have given a connection back.
  assert.ok(Number.isInteger(address.reclaimed) && address.reclaimed >= 0);
  assert.deepEqual({ ...address, address: '', reclaimed: 0 }, {
    address: '', mechanism: mechanism(), policy: 'rr', accepted: 150, reclaimed: 0, lost: 0,
  });
});

test('stats: no addresses before the first listen(), none after the last worker', ours, async (t) => {
  const rig = await startRig(t, { workers: 0, serve: answerId });
  assert.deepEqual(await rig.stats(), { workers: [], addresses: [], notices: [] });
  await rig.fork(2);
  assert.equal((await rig.stats()).addresses.length, 1);
  await rig.inPrimary((cluster) => new Promise((resolve) => { cluster.disconnect(resolve); }));
  await until(async () => {
    const { workers, addresses } = await rig.stats();
    return workers.length === 0 && addresses.length === 0;
  }, 'nobody is left');
});

test('stats: connections wait for a busy worker, go to another one, and nothing is lost', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId, env: exactTurns() });
  const awake = rig.inWorker(1, (w) => {
    w.tell({ asleep: true });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
  });
  await rig.told((value) => value.asleep);
  const waiting = [];
  const answers = tally(40, 4, () => ask(rig.port));
  const watch = until(async () => {
    const { workers, addresses } = await rig.stats();
    waiting.push(...workers.map((worker) => worker.waiting));
    return addresses[0].reclaimed > 0;
  }, 'a connection was taken back');
  const counts = await answers;
  await watch;
  await awake;
  assert.equal([...counts.values()].reduce((sum, number) => sum + number), 40);
  const { workers, addresses: [address] } = await rig.stats();
  assert.equal(address.accepted, 40);
  assert.equal(address.lost, 0);
  for (const { id, delivered } of workers) assert.equal(delivered, counts.get(`${id}`) || 0);
  // In its own queue in the kernel may wait whoever comes before the worker is found to be busy.
  const most = mechanism() === 'kernel' ? 4 : 2;
  for (const number of waiting) assert.ok(number <= most, `${number} waited for one worker`);
});

test('worker.slot: the lowest free one, taken again after an exit, the same on both sides', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId });
  const slots = () => rig.inPrimary((cluster) => {
    return Object.fromEntries(Object.values(cluster.workers).map((worker) => [worker.id, worker.slot]));
  });
  assert.deepEqual(await slots(), { 1: 0, 2: 1, 3: 2 });
  for (const id of [1, 2, 3]) assert.equal(await rig.inWorker(id, (w) => w.cluster.worker.slot), id - 1);
  rig.kill(2);
  await rig.event('exit', (e) => e.id === 2);
  await rig.fork(2);
  assert.deepEqual(await slots(), { 1: 0, 3: 2, 4: 1, 5: 3 });
  assert.equal(await rig.inWorker(4, (w) => w.cluster.worker.slot), 1);
  await rig.inPrimary((cluster) => {
    cluster.workers[1].disconnect();
    cluster.workers[4].disconnect();
  });
  for (const id of [1, 4]) await rig.event('exit', (e) => e.id === id);
  await rig.fork(2);
  assert.deepEqual(await slots(), { 3: 2, 5: 3, 6: 0, 7: 1 });
  const { workers } = await rig.stats();
  assert.deepEqual(workers.map(({ id, slot }) => [id, slot]), [[3, 2], [5, 3], [6, 0], [7, 1]]);
});
