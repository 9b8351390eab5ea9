'use strict';

// cluster.reload() and what belongs to it: new workers come beside the old ones and get nothing before they are ready; nobody notices.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ask, exactTurns, hasKernel, ours, until } = require('../support/index.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const MECHANISMS = {
  'what a cluster takes by itself': {},
  passed: { CL_MECHANISM: 'passed' },
  ...(hasKernel() && { kernel: { CL_MECHANISM: 'kernel' } }),
  SCHED_NONE: { NODE_CLUSTER_SCHED_POLICY: 'none' },
};

function answerId(w, { broken } = {}) {
  const { slot } = require('node:cluster').worker;
  if (process.env.BROKEN === `${slot}` || process.env.BROKEN === 'all') process.exit(7);
  require('node:net').createServer((socket) => {
    socket.on('error', () => {}).end(`${w.id}`);
  }).listen(broken ?? 0, '127.0.0.1');
}

/** Asks again and again while `work` goes on; gives its result. No connection fails. */
async function meanwhile(rig, work) {
  const failures = [];
  let going = true;
  const clients = Array.from({ length: 3 }, async () => {
    while (going) await ask(rig.port).catch((error) => failures.push(error.code ?? error.message));
  });
  const result = await work().finally(() => { going = false; });
  await Promise.all(clients);
  assert.deepEqual(failures, []);
  return result;
}

const reload = (rig, options) => rig.inPrimary((cluster, given) => cluster.reload(given), options);
const workersOf = (rig) => rig.inPrimary((cluster) => Object.values(cluster.workers).map(({ id, slot, generation }) => [id, slot, generation]));

for (const [mechanism, env] of Object.entries(MECHANISMS)) {
  test(`${mechanism}: all are replaced, again and again, and nobody notices`, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: answerId, env });
    await meanwhile(rig, async () => {
      for (let generation = 2; generation < 6; generation++) {
        const outcome = await reload(rig, { minReady: 0, parallel: generation % 2 + 1 });
        assert.deepEqual(outcome, { generation, outcome: 'done', replaced: 2, reason: '' });
        await until(async () => (await workersOf(rig)).length === 2, 'the old ones are gone');
      }
    });
    assert.deepEqual((await workersOf(rig)).map(([, ...rest]) => rest).sort(), [[0, 5], [1, 5]]);
  });
}

for (const [mechanism, env] of Object.entries(MECHANISMS)) {
  if (mechanism === 'SCHED_NONE') continue;
  test(`${mechanism}: a worker that has not said that it is ready gets nothing`, ours, async (t) => {
    const settings = { waitReady: true };
    const rig = await startRig(t, { workers: 1, serve: answerId, env, settings });
    await rig.inWorker(1, () => require('cluster-rs').ready());
    await rig.event('ready', (e) => e.id === 1);
    const reloading = reload(rig, { minReady: 0, readyTimeout: Infinity });
    await rig.event('listening', (e) => e.id === 2);
    for (let i = 0; i < 30; i++) assert.equal(await ask(rig.port), '1');
    await rig.inWorker(2, () => { process.send('ready'); });
    assert.equal((await reloading).outcome, 'done');
    await rig.event('exit', (e) => e.id === 1);
    for (let i = 0; i < 30; i++) assert.equal(await ask(rig.port), '2');
  });
}

test('workers that end are refused, and the old ones stay', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: answerId });
  const outcome = await meanwhile(rig, () => reload(rig, { env: { BROKEN: 'all' } }));
  assert.deepEqual({ ...outcome, reason: '' }, { generation: 2, outcome: 'refused', replaced: 0, reason: '' });
  assert.match(outcome.reason, /worker 3 .*before it was ready/);
  assert.deepEqual(await workersOf(rig), [[1, 0, 1], [2, 1, 1]]);
  await assert.rejects(rig.inPrimary((cluster) => cluster.rollback()), /no reload/);
});

test('a later one that ends has all put back', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: answerId });
  const outcome = await meanwhile(rig, () => reload(rig, { minReady: 0, env: { BROKEN: '1' } }));
  assert.equal(outcome.outcome, 'rolled-back');
  await until(async () => (await workersOf(rig)).length === 2, 'the others are gone');
  assert.deepEqual((await workersOf(rig)).map(([, ...rest]) => rest).sort(), [[0, 1], [1, 1]]);
});

test('another reload takes the place of the first; a rollback goes back', ours, async (t) => {
  const rig = await startRig(t, { workers: 1, serve: answerId });
  const outcomes = await meanwhile(rig, () => rig.inPrimary((cluster) => Promise.all([
    cluster.reload({ minReady: 3000 }),
    cluster.reload({ minReady: 0 }),
  ])));
  assert.deepEqual(outcomes.map(({ outcome }) => outcome), ['superseded', 'done']);
  const back = await rig.inPrimary((cluster) => cluster.rollback({ minReady: 0 }));
  assert.equal(back.outcome, 'done');
  const [queued, refused] = await rig.inPrimary(async (cluster) => {
    cluster.reload({ minReady: 100 });
    const waits = cluster.reload({ minReady: 0, busy: 'queue' });
    const code = await cluster.reload({ busy: 'refuse' }).catch((error) => error.code);
    return [await waits, code];
  });
  assert.deepEqual([queued.outcome, refused], ['done', 'EBUSY']);
});

test('who forks whenever a worker ends gets no more of them', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: answerId });
  await rig.inPrimary((cluster) => {
    globalThis.forked = [];
    cluster.on('exit', () => globalThis.forked.push(cluster.fork(globalThis.workerSetup).id));
  });
  await reload(rig, { minReady: 0 });
  await until(async () => (await workersOf(rig)).length === 2, 'the old ones are gone');
  await until(async () => (await rig.inPrimary(() => globalThis.forked)).length === 2, 'both ends were told');
  const [left, forked] = [await workersOf(rig), await rig.inPrimary(() => globalThis.forked)];
  assert.deepEqual(forked.sort(), left.map(([id]) => id).sort());
  // One that has just died is replaced, as ever.
  await rig.inPrimary((cluster) => { Object.values(cluster.workers)[0].process.kill('SIGKILL'); });
  await until(async () => (await workersOf(rig)).filter(([id]) => id > 4).length === 1, 'another was forked');
  await rig.inPrimary((cluster) => { cluster.removeAllListeners('exit'); });
});

test('more, fewer, and another one', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: answerId, env: exactTurns() });
  await meanwhile(rig, async () => {
    for (const count of [4, 1, 3]) {
      await rig.inPrimary((cluster, slots) => cluster.scale(slots), count);
      await until(async () => (await workersOf(rig)).length === count, `${count} workers`);
    }
    const before = await workersOf(rig);
    await rig.inPrimary((cluster, id) => cluster.workers[id].restart(), before[0][0]);
    await rig.event('exit', (e) => e.id === before[0][0]);
  });
  assert.equal((await workersOf(rig)).length, 3);
});

test('what cannot be asked for', ours, async (t) => {
  const rig = await startRig(t, { workers: 1, serve: answerId });
  for (const [call, reason] of [
    [(cluster) => cluster.reload({ parallel: 0 }), /options\.parallel/],
    [(cluster) => cluster.reload({ busy: 'wait' }), /options\.busy/],
    [(cluster) => cluster.reload({ rollback: 1 }), /options\.rollback/],
    [(cluster) => cluster.scale(0), /options\.count/],
    [(cluster) => cluster.recycle({ rss: 'much' }), /options\.rss/],
    [(cluster) => cluster.recycle({ age: -1 }), /options\.age/],
  ]) await assert.rejects(rig.inPrimary(call), reason);
  await rig.inPrimary((cluster) => cluster.recycle({ rss: '4G', age: '24h', requests: 5 }));
  await rig.inPrimary((cluster) => cluster.recycle());
});
