'use strict';

// SCHED_NONE: the workers accept from one socket that Node's own code has opened. For a connection one of them is woken, and not all.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ask, descriptors, ours, until } = require('../support/index.cjs');
const { tally } = require('./fixtures/clients.cjs');
const { EXCLUSIVE, entries, inLine, inodesOf, switchesOf } = require('./fixtures/line.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const NONE = { NODE_CLUSTER_SCHED_POLICY: 'none' };

function answerId(w, options) {
  w.server = require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`))
    .listen(options.path ? options : { host: '127.0.0.1', port: 0, ...options });
}

test('one connection wakes one worker, and all have some', ours, async (t) => {
  const count = 12;
  const rig = await startRig(t, { workers: count, serve: answerId, env: NONE });
  const ids = Array.from({ length: count }, (_, i) => i + 1);
  const inodes = inodesOf(rig.port);
  for (const id of ids) await inLine(rig, id, inodes);
  const switches = () => ids.reduce((sum, id) => sum + switchesOf(rig.pid(id)), 0);
  await tally(2 * count, 1, () => ask(rig.port));
  const before = switches();
  const counts = await tally(240, 1, () => ask(rig.port));
  const each = (switches() - before) / 240;
  // The one that serves sleeps two or three times before its connection is closed. If all were woken it were more than 12.
  assert.ok(each < 7, `${each} for each connection`);
  assert.equal(counts.size, count);
  for (const id of ids) await inLine(rig, id, inodes);
});

test('a server that is closed is out of line, and the others go on; it listens again and has some', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId, env: NONE });
  const { port } = rig;
  const inodes = inodesOf(port);
  for (const id of [1, 2]) await inLine(rig, id, inodes);
  await rig.inWorker(1, (w) => new Promise((resolve) => { w.server.close(resolve); }));
  assert.deepEqual(entries(rig.pid(1), inodes), []);
  assert.deepEqual([...await tally(20, 4, () => ask(port))], [['2', 20]]);
  await rig.inWorker(1, (w) => new Promise((resolve) => { w.server.listen(0, '127.0.0.1', resolve); }));
  await inLine(rig, 1, inodes);
  assert.equal((await tally(60, 2, () => ask(port))).size, 2);
});

test('unix sockets, too', ours, async (t) => {
  const where = `\0cluster-rs-none-${process.pid}`;
  const rig = await startRig(t, { serve: answerId, options: { path: where }, env: NONE });
  const sockets = () => new Set(Object.values(descriptors(rig.pid(1))).filter((what) =>
    Object.values(descriptors(rig.pid(2))).includes(what) && what.startsWith('socket:')));
  const waits = (id) => entries(rig.pid(id), sockets()).filter((events) => events === EXCLUSIVE).length === 1;
  await until(() => waits(1) && waits(2), 'both wait in line');
  assert.equal((await tally(100, 4, () => ask(where))).size, 2);
});

test('a worker that does something else, is stopped or is killed keeps nobody waiting', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId, env: NONE });
  const inodes = inodesOf(rig.port);
  for (const id of [1, 2, 3]) await inLine(rig, id, inodes);
  await rig.blockForEver(1);
  rig.kill(2, 'SIGSTOP');
  assert.deepEqual([...await tally(60, 6, () => ask(rig.port))], [['3', 60]]);
  rig.kill(2, 'SIGCONT');
  rig.kill(1);
  await until(async () => await ask(rig.port) === '2', 'the worker answers again');
  for (let last = 3; last < 12; last++) {
    const [id] = await rig.fork(1);
    await inLine(rig, id, inodes);
    const answers = Array.from({ length: 3 }, () => ask(rig.port).catch((error) => error.code));
    rig.kill(last);
    for (const answer of await Promise.all(answers)) assert.match(answer, /^(\d+|ECONNRESET)?$/);
  }
});
