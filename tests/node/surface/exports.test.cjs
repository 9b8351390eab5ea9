'use strict';
// What the module is, in both roles and both module systems.

const test = require('node:test');
const assert = require('node:assert/strict');
const { MODULE, ours, play } = require('../support/index.cjs');

const PRIMARY = ['isWorker', 'isMaster', 'isPrimary', 'Worker', 'workers', 'settings', 'SCHED_NONE', 'SCHED_RR',
  'schedulingPolicy', 'setupPrimary', 'setupMaster', 'fork', 'disconnect'];
const WORKER = ['isWorker', 'isMaster', 'isPrimary', 'worker', 'Worker', '_setupWorker', '_getServer'];

test('the primary has the properties of Node\'s module', async () => {
  const run = await play({
    primary({ cluster, report }) {
      report('keys', Object.keys(cluster));
      const { isWorker, isMaster, isPrimary, SCHED_NONE, SCHED_RR, schedulingPolicy, workers, settings } = cluster;
      report('values', { isWorker, isMaster, isPrimary, SCHED_NONE, SCHED_RR, schedulingPolicy, workers, settings });
      report('worker', cluster.worker === undefined, 'worker' in cluster);
      report('one thing', cluster === require('node:cluster'), cluster === require('cluster'),
        cluster.setupMaster === cluster.setupPrimary, cluster instanceof require('node:events'));
    },
  });
  const keys = run.one('keys');
  for (const name of PRIMARY) assert.ok(keys.includes(name), name);
  assert.deepEqual(run.one('values'), {
    isWorker: false, isMaster: true, isPrimary: true,
    SCHED_NONE: 1, SCHED_RR: 2, schedulingPolicy: 2, workers: {}, settings: {},
  });
  assert.deepEqual(run.all('worker'), [[true, false]]);
  assert.deepEqual(run.all('one thing'), [[true, true, true, true]]);
});

test('a worker has the properties of Node\'s module and none of the primary\'s', async () => {
  const run = await play({
    primary({ cluster }) {
      cluster.fork();
    },
    worker({ cluster, report }) {
      report('keys', Object.keys(cluster));
      const { isWorker, isMaster, isPrimary, worker } = cluster;
      report('values', { isWorker, isMaster, isPrimary });
      report('worker', worker.id, worker.process === process, worker instanceof cluster.Worker, worker.state,
        worker.exitedAfterDisconnect === undefined, worker.isConnected(), worker.isDead());
      report('one thing', cluster === require('node:cluster'), cluster === require('cluster'));
      process.disconnect();
    },
  });
  const keys = run.one('keys');
  for (const name of WORKER) assert.ok(keys.includes(name), name);
  for (const name of PRIMARY) assert.equal(keys.includes(name), WORKER.includes(name), name);
  assert.deepEqual(run.one('values'), { isWorker: true, isMaster: false, isPrimary: false });
  assert.deepEqual(run.all('worker'), [[1, true, true, 'online', true, true, false]]);
  assert.deepEqual(run.all('one thing'), [[true, true]]);
});

test('what cluster-rs adds is there in its role only, and nothing else is', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      report('primary', Object.keys(cluster), typeof cluster.stats);
      const worker = cluster.fork();
      report('slot', worker.slot);
      await happens(worker, 'exit');
    },
    worker({ cluster, report }) {
      report('worker', Object.keys(cluster), cluster.worker.slot, typeof cluster.worker.setLoad);
      process.disconnect();
    },
  });
  const [[primary, stats]] = run.all('primary');
  const [[worker, slot, setLoad]] = run.all('worker');
  const known = ['domain', '_events', '_eventsCount', '_maxListeners'];
  const more = ['SCHED_LEAST_LOADED', 'SCHED_SOURCE_HASH', 'ready', 'recycle', 'reload', 'rollback', 'scale', 'stats'];
  assert.deepEqual(primary.filter((name) => ![...PRIMARY, ...known].includes(name)).sort(), more);
  assert.deepEqual(worker.filter((name) => ![...WORKER, ...known].includes(name)), ['ready']);
  assert.equal(stats, 'function');
  assert.equal(slot, 0);
  assert.equal(setLoad, 'function');
  assert.equal(run.one('slot'), 0);
});

test('ES modules get the same object and the same functions', async () => {
  const run = await play({
    files: {
      'app.mjs': `
        import cluster, { isPrimary, fork } from '${MODULE}';
        import real, * as names from 'node:cluster';
        import { createRequire } from 'node:module';
        const require = createRequire(import.meta.url);
        const { report } = require(process.env.SUPPORT + '/inside.cjs');
        report('default', cluster === real, cluster === require('node:cluster'), isPrimary);
        report('names', fork === cluster.fork, names.fork === cluster.fork, names.disconnect === cluster.disconnect,
          names.setupPrimary === cluster.setupPrimary);
        // Of app.mjs itself a worker could not import 'fork': there it is no name of node:cluster.
        cluster.setupPrimary({ exec: 'worker.mjs' });
        fork();
        names.fork();
      `,
      'worker.mjs': `
        import cluster, { isWorker } from 'node:cluster';
        import { createRequire } from 'node:module';
        const require = createRequire(import.meta.url);
        require(process.env.SUPPORT + '/inside.cjs').report('worker', isWorker, cluster === require('cluster'));
        process.disconnect();
      `,
    },
    entry: 'app.mjs',
  });
  assert.deepEqual(run.all('default'), [[true, true, true]]);
  assert.deepEqual(run.all('names'), [[true, true, true, true]]);
  assert.deepEqual(run.all('worker'), [[true, true], [true, true]]);
});

test('a worker can import by name what a worker has', async () => {
  const run = await play({
    files: {
      'worker.mjs': `
        import cluster, { isWorker, worker, Worker } from '${MODULE}';
        import { createRequire } from 'node:module';
        const require = createRequire(import.meta.url);
        require(process.env.SUPPORT + '/inside.cjs').report('worker', isWorker, worker === cluster.worker,
          worker instanceof Worker, cluster === require('node:cluster'));
        worker.disconnect();
      `,
    },
    primary({ cluster }) {
      cluster.setupPrimary({ exec: 'worker.mjs' });
      cluster.fork();
    },
  });
  assert.deepEqual(run.all('worker'), [[true, true, true, true]]);
});

test('a module of others that requires node:cluster, before or after, is served', async () => {
  const run = await play({
    files: {
      'early.cjs': `
        const cluster = require('node:cluster');
        module.exports = { fork: (env) => cluster.fork(env), cluster };
      `,
      'app.cjs': `
        const other = require('./early.cjs');
        const cluster = require('${MODULE}');
        const { report } = require(process.env.SUPPORT + '/inside.cjs');
        if (cluster.isPrimary) {
          report('primary', other.cluster === cluster);
          other.fork({ BY: 'early' });
          require('cluster').fork({ BY: 'late' });
          let listening = 0;
          cluster.on('listening', async (worker, address) => {
            report('listening', address.port > 0);
            if (++listening < 2) return;
            const { everybody, request } = require(process.env.SUPPORT + '/clients.cjs');
            report('answers', await everybody(2, async () => (await request(address.port)).body));
            cluster.disconnect();
          });
        } else {
          report('worker', other.cluster === cluster, other.cluster.worker.id > 0);
          require('http').createServer((request, response) => response.end(process.env.BY)).listen(0);
        }
      `,
    },
    entry: 'app.cjs',
  });
  assert.deepEqual(run.all('primary'), [[true]]);
  assert.deepEqual(run.all('worker'), [[true, true], [true, true]]);
  assert.deepEqual(run.one('answers'), ['early', 'late']);
});

test('Worker is a constructor with and without new, and an EventEmitter', async () => {
  const run = await play({
    primary({ cluster, report }) {
      const { Worker } = cluster;
      const EventEmitter = require('node:events');
      const made = new Worker({ id: 3, state: 'online', process: new EventEmitter() });
      const called = Worker({ id: '7' });
      report('made', made.id, made.state, made.exitedAfterDisconnect === undefined, made instanceof EventEmitter);
      report('called', called.id, called.state, called instanceof Worker, called.process === undefined);
      report('empty', new Worker().id, new Worker(null).state);
      made.on('message', (...values) => report('message', values));
      made.on('error', (...values) => report('error', values));
      made.process.emit('message', { some: 'thing' }, null);
      made.process.emit('error', 'code', 'signal');
      report('methods', ['kill', 'destroy', 'send', 'isDead', 'isConnected', 'disconnect']
        .map((name) => typeof Worker.prototype[name]));
    },
  });
  assert.deepEqual(run.all('made'), [[3, 'online', true, true]]);
  assert.deepEqual(run.all('called'), [[7, 'none', true, true]]);
  assert.deepEqual(run.all('empty'), [[0, 'none']]);
  assert.deepEqual(run.one('message'), [{ some: 'thing' }, null]);
  assert.deepEqual(run.one('error'), ['code', 'signal']);
  assert.deepEqual(run.one('methods'), new Array(6).fill('function'));
});

test('loading it twice, by each of its doors, patches once', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const { fork } = cluster;
      for (const file of Object.keys(require.cache)) {
        if (/node-addon|cluster-rs/.test(file) && file.endsWith('.cjs')) delete require.cache[file];
      }
      const again = require('cluster-rs');
      require('cluster-rs/register');
      await import('cluster-rs');
      await import('cluster-rs/register');
      report('same', again === cluster, cluster.fork === fork);
      const worker = cluster.fork();
      await happens(worker, 'exit');
    },
    worker({ cluster, report }) {
      report('worker', require('cluster-rs') === cluster);
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('same'), [[true, true]]);
  assert.deepEqual(run.all('worker'), [[true]]);
});
