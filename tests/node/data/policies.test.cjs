'use strict';

// SCHED_LEAST_LOADED and SCHED_SOURCE_HASH: who gets the connections, over net and over http.

const test = require('node:test');
const assert = require('node:assert/strict');
const { isDeepStrictEqual } = require('node:util');
const { ask, mechanismOfOthers, ours, request, until } = require('../support/index.cjs');
const { hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const ADDRESSES = Array.from({ length: 40 }, (_, i) => `127.0.0.${i + 2}`);

function answerId(w) {
  require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
}

function answerHttp(w) {
  require('node:http').createServer((asked, answer) => answer.end(`${w.id}`)).listen(0, '127.0.0.1');
}

// Keeps the connection until the client closes it.
function keep(w) {
  require('node:net').createServer((socket) => {
    socket.on('error', () => {}).resume().write(`${w.id}`);
  }).listen(0, '127.0.0.1');
}

const byNet = (localAddress, port) => ask({ host: '127.0.0.1', port, localAddress });
const byHttp = async (localAddress, port) => (await request(port, { localAddress })).body;

async function owners(one, port) {
  const found = [];
  for (const address of ADDRESSES) found.push(await one(address, port));
  return found;
}

// A worker that had no processor for a while has its clients served by others; who belongs to whom shows when that is over.
async function settled(one, port, isSo) {
  let found = await owners(one, port);
  return until(async () => {
    const before = found;
    found = await owners(one, port);
    return isSo(found, before) && found;
  }, 'each client has its worker');
}

for (const [name, serve, one] of [['net', answerId, byNet], ['http', answerHttp, byHttp]]) {
  test(`${name}, SCHED_SOURCE_HASH: a client meets its worker, and after a death the one in the same slot`, ours, async (t) => {
    const rig = await startRig(t, { workers: 3, serve, env: { NODE_CLUSTER_SCHED_POLICY: 'source-hash' } });
    const before = await settled(one, rig.port, (found, again) => isDeepStrictEqual(found, again));
    assert.deepEqual(new Set(before), new Set(['1', '2', '3']));
    rig.kill(2);
    await rig.event('exit', ({ id }) => id === 2);
    await settled(one, rig.port, (found) => found.every((owner, i) => (
      before[i] === '2' ? ['1', '3'].includes(owner) : owner === before[i])));
    assert.deepEqual(await rig.fork(1), [4]);
    const successors = before.map((owner) => (owner === '2' ? '4' : owner));
    await settled(one, rig.port, (found) => isDeepStrictEqual(found, successors));
    const { workers, addresses } = await rig.stats();
    assert.equal(workers.find(({ id }) => id === 4).slot, 1);
    assert.deepEqual(addresses.map(({ policy, mechanism, lost }) => [policy, mechanism, lost]), [['source-hash', mechanismOfOthers(), 0]]);
  });
}

test('SCHED_SOURCE_HASH: many at a time of one client meet its worker', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: answerId, env: { NODE_CLUSTER_SCHED_POLICY: 'source-hash' } });
  const counts = await tally(300, 60, () => byNet(ADDRESSES[0], rig.port));
  const { addresses: [{ reclaimed }] } = await rig.stats();
  // Unless the worker had no processor for so long that others were given what waited for it.
  if (reclaimed === 0) assert.deepEqual([...counts.values()], [300]);
  assert.equal([...counts.values()].reduce((sum, number) => sum + number), 300);
});

async function loads(rig, wanted) {
  for (const [id, load] of Object.entries(wanted)) {
    await rig.inWorker(Number(id), (w, told) => w.cluster.worker.setLoad(told), load);
  }
  const { workers } = await rig.stats();
  assert.deepEqual(workers.map(({ load }) => load), Object.values(wanted));
}

for (const [name, serve, one] of [['net', answerId, byNet], ['http', answerHttp, byHttp]]) {
  test(`${name}, SCHED_LEAST_LOADED: the least load that was set wins`, ours, async (t) => {
    const rig = await startRig(t, { workers: 3, serve, env: { NODE_CLUSTER_SCHED_POLICY: 'least-loaded' } });
    const next = () => one('127.0.0.1', rig.port);
    await loads(rig, { 1: 1000, 2: 0, 3: 1000 });
    assert.deepEqual(await tally(30, 1, next), new Map([['2', 30]]));
    await loads(rig, { 1: 1000, 2: 2000, 3: 0 });
    assert.deepEqual(await tally(30, 1, next), new Map([['3', 30]]));
    const { workers, addresses: [{ policy, accepted, lost }] } = await rig.stats();
    assert.deepEqual([policy, accepted, lost], ['least-loaded', 60, 0]);
    // What the program told is not measured over.
    assert.deepEqual(workers.map(({ load }) => load), [1000, 2000, 0]);
  });
}

test('SCHED_LEAST_LOADED: a worker tells by itself how many connections it has, and how late it is', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: keep, env: { NODE_CLUSTER_SCHED_POLICY: 'least-loaded' } });
  const held = [];
  for (let i = 0; i < 20; i++) held.push(await hold({ port: rig.port }));
  const own = (id) => held.filter(({ greeting }) => greeting === `${id}`).length;
  const load = async (id) => (await rig.stats()).workers.find((worker) => worker.id === id).load;
  // A busy machine makes it late, too, but not for ever.
  await until(async () => await load(1) === own(1) && await load(2) === own(2), 'the loads are the connections');
  await rig.inWorker(1, () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500));
  await until(async () => await load(1) >= own(1) + 20, 'the load of a late worker');
  await release(held);
  await until(async () => await load(1) === 0 && await load(2) === 0, 'the loads of workers without connections');
});

test('without SCHED_LEAST_LOADED a load is told only by the program', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: keep });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  assert.deepEqual((await rig.stats()).workers.map(({ load }) => load), [0, 0]);
  await loads(rig, { 1: 5, 2: 4294967295 });
  await release(held);
});

test('setLoad: what is no load throws', ours, async (t) => {
  const rig = await startRig(t, { workers: 1, serve: answerId });
  const codes = await rig.inWorker(1, (w) => [undefined, null, '1', {}, 1n, NaN, -1, 0.5, Infinity, 2 ** 32].map((bad) => {
    try {
      w.cluster.worker.setLoad(bad);
      return 'nothing';
    } catch (error) {
      return `${error.name} ${error.code}`;
    }
  }));
  assert.deepEqual(codes, [...Array(5).fill('TypeError ERR_INVALID_ARG_TYPE'), ...Array(5).fill('RangeError ERR_OUT_OF_RANGE')]);
  assert.deepEqual((await rig.stats()).workers.map(({ load }) => load), [0]);
});
