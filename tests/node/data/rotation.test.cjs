'use strict';

// The mechanism rotation: all workers accept from one socket, each in its turn, from Node's own event loop.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ask, descriptors, listeningPorts, ours, until } = require('../support/index.cjs');
const { hold, release, tally } = require('./fixtures/clients.cjs');
const { EXCLUSIVE, entries, inLine, inodesOf, switchesOf } = require('./fixtures/line.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const ROTATION = { CL_MECHANISM: 'rotation' };

function answerId(w, options) {
  w.server = require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`))
    .listen(options.path ? options : { host: '127.0.0.1', port: 0, ...options });
}

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

for (const outstanding of [1, 10, 64]) {
  test(`turns are even, ${outstanding} at a time`, ours, async (t) => {
    const rig = await startRig(t, { workers: 4, serve: answerId, env: ROTATION });
    const inodes = inodesOf(rig.port);
    for (const id of [1, 2, 3, 4]) await inLine(rig, id, inodes);
    const counts = await tally(2000, outstanding, () => ask(rig.port));
    // At the end, whoever had no processor may be some way behind.
    for (const id of ['1', '2', '3', '4']) assert.ok(Math.abs(counts.get(id) - 500) <= 125, `worker ${id} got ${counts.get(id)} of 500`);
    const { workers, addresses: [address] } = await rig.stats();
    assert.deepEqual([address.mechanism, address.accepted, address.lost], ['rotation', 2000, 0]);
    for (const { id, delivered } of workers) assert.equal(delivered, counts.get(`${id}`));
  });
}

test('one connection wakes one worker', ours, async (t) => {
  const count = 12;
  const rig = await startRig(t, { workers: count, serve: answerId, env: ROTATION });
  const ids = Array.from({ length: count }, (_, i) => i + 1);
  const inodes = inodesOf(rig.port);
  for (const id of ids) await inLine(rig, id, inodes);
  const switches = () => ids.reduce((sum, id) => sum + switchesOf(rig.pid(id)), 0);
  await tally(2 * count, 1, () => ask(rig.port));
  const before = switches();
  await tally(200, 1, () => ask(rig.port));
  const each = (switches() - before) / 200;
  // The one that serves sleeps two or three times before its connection is closed. If all were woken it were more than 12.
  assert.ok(each < 7, `${each} for each connection`);
});

test('a server that is closed is out of line, and the others go on; it listens again and has its turns', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId, options: { port: await freePort() }, env: ROTATION });
  const inodes = inodesOf(rig.port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  await rig.inWorker(1, (w) => new Promise((resolve) => { w.server.close(resolve); }));
  assert.deepEqual(entries(rig.pid(1), inodes), []);
  // libuv lets go of the socket at the end of the turn in which the server is closed.
  await until(() => listeningPorts(rig.pid(1)).length === 0, 'the socket is closed');
  assert.deepEqual(listeningPorts(rig.pid(2)), [rig.port]);
  assert.deepEqual([...await tally(20, 4, () => ask(rig.port))], [['2', 20]]);
  await rig.inWorker(1, (w, port) => new Promise((resolve) => { w.server.listen(port, '127.0.0.1', resolve); }), rig.port);
  await inLine(rig, 1, inodes);
  const counts = await tally(200, 1, () => ask(rig.port));
  for (const id of ['1', '2']) assert.ok(Math.abs(counts.get(id) - 100) <= 20, `worker ${id} got ${counts.get(id)} of 100`);
});

test('a server with maxConnections leaves the line while it is full', ours, async (t) => {
  const rig = await startRig(t, {
    env: ROTATION,
    serve(w) {
      w.server = require('node:net').createServer((socket) => socket.on('error', () => {}).resume().write(`${w.id}`));
      if (w.id === 1) w.server.maxConnections = 2;
      w.server.listen(0, '127.0.0.1');
    },
  });
  const inodes = inodesOf(rig.port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  const held = [];
  const itsOwn = () => held.filter((socket) => socket.greeting === '1');
  await until(async () => {
    held.push(await hold({ port: rig.port }));
    return itsOwn().length === 2;
  }, 'it is full');
  for (let i = 0; i < 8; i++) held.push(await hold({ port: rig.port }));
  await until(() => entries(rig.pid(1), inodes).length === 0, 'it has left the line');
  const own = itsOwn();
  assert.equal(own.length, 2);
  await release(own);
  await inLine(rig, 1, inodes);
  const next = [];
  await until(async () => {
    next.push(await hold({ port: rig.port }));
    return next.filter((socket) => socket.greeting === '1').length === 2;
  }, 'it is full again');
  next.push(await hold({ port: rig.port }));
  assert.equal(next.at(-1).greeting, '2');
  await release([...held, ...next]);
});

test('nobody changes the socket that all have: it does not block, and its backlog is the first one\'s', ours, async (t) => {
  const rig = await startRig(t, {
    env: ROTATION,
    serve(w) {
      w.server = require('node:net').createServer((socket) => socket.end(`${w.id}`)).listen({
        port: 0, host: '127.0.0.1', backlog: w.id === 1 ? 100 : 7,
      });
    },
  });
  const inodes = inodesOf(rig.port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  const look = () => {
    const [fd] = Object.entries(descriptors(rig.primary.pid)).find(([, what]) => inodes.has(what));
    const [, flags] = /^flags:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/${rig.primary.pid}/fdinfo/${fd}`, 'utf8'));
    const { error, stdout } = spawnSync('ss', ['-Hltn', `sport = :${rig.port}`], { encoding: 'utf8' });
    return [parseInt(flags, 8) & fs.constants.O_NONBLOCK, error ? '100' : stdout.trim().split(/\s+/)[2]];
  };
  const before = look();
  assert.equal(before[0], fs.constants.O_NONBLOCK);
  assert.match(before[1], /^(100|7)$/);
  await tally(20, 4, () => ask(rig.port));
  await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
  await rig.event('exit', ({ id }) => id === 1);
  assert.deepEqual(look(), before);
  assert.deepEqual([...await tally(10, 2, () => ask(rig.port))], [['2', 10]]);
});

test('unix sockets, too; a file that somebody removed is made anew', ours, async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-data-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const where = path.join(folder, 'shared.sock');
  const rig = await startRig(t, { serve: answerId, options: { path: where }, env: ROTATION });
  const sockets = () => new Set(Object.values(descriptors(rig.pid(1))).filter((what) =>
    Object.values(descriptors(rig.pid(2))).includes(what) && what.startsWith('socket:')));
  const waits = (id) => entries(rig.pid(id), sockets()).filter((events) => events === EXCLUSIVE).length === 1;
  await until(() => waits(1) && waits(2), 'both wait in line');
  const counts = await tally(200, 4, () => ask(where));
  for (const id of ['1', '2']) assert.ok(Math.abs(counts.get(id) - 100) <= 30, `worker ${id} got ${counts.get(id)} of 100`);
  fs.unlinkSync(where);
  await rig.fork(1);
  const all = await tally(90, 1, () => ask(where));
  assert.deepEqual([...all.keys()].sort(), ['1', '2', '3']);
});

test('the last to leave serves whoever waits; others leave them to those who stay', ours, async (t) => {
  const rig = await startRig(t, {
    env: ROTATION,
    serve(w) {
      w.server = require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
    },
  });
  const { port } = rig;
  const inodes = inodesOf(port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  for (const id of [1, 2]) {
    const busy = rig.inWorker(id, (w) => new Promise((resolve) => {
      setImmediate(() => {
        w.tell({ busy: w.id });
        const end = Date.now() + 300;
        while (Date.now() < end);
        w.cluster.worker.disconnect();
        resolve();
      });
    }));
    await rig.told((value) => value.busy === id);
    const answers = Array.from({ length: 20 }, () => ask(port));
    await busy;
    const from = await Promise.all(answers);
    assert.equal(from.length, 20);
    await rig.event('exit', (event) => event.id === id);
  }
});

test('libuv with io_uring: turns are even, and a closed server is out of line', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId, env: { ...ROTATION, UV_USE_IO_URING: '1' } });
  const inodes = inodesOf(rig.port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  const counts = await tally(300, 8, () => ask(rig.port));
  for (const id of ['1', '2']) assert.ok(Math.abs(counts.get(id) - 150) <= 40, `worker ${id} got ${counts.get(id)} of 150`);
  await rig.inWorker(1, (w) => new Promise((resolve) => { w.server.close(resolve); }));
  assert.deepEqual(entries(rig.pid(1), inodes), []);
  assert.deepEqual([...await tally(10, 2, () => ask(rig.port))], [['2', 10]]);
});
