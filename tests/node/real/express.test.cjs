'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { play } = require('../support/index.cjs');

const files = { 'express.cjs': fs.readFileSync(path.join(__dirname, 'fixtures/express.cjs'), 'utf8') };

test('express: an application for one process runs in three', async () => {
  const run = await play({
    files,
    async primary({ cluster, report, happens, request, until }) {
      const http = require('node:http');
      cluster.setupPrimary({ exec: 'express.cjs' });
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      report('pids', workers.map((worker) => worker.process.pid));

      // Everything is asked of each worker: until all three have answered.
      async function ofAll(name, options, look) {
        const seen = new Map();
        await until(async () => {
          const { status, body } = await request(port, options);
          const answer = JSON.parse(body);
          seen.set(answer.pid, look({ status, ...answer }));
          return seen.size === 3;
        }, name);
        report(name, Object.fromEntries(seen));
      }
      await ofAll('who', { path: '/who' }, ({ ip, port: from }) => [ip, Number.isInteger(from)]);
      const numbers = Array.from({ length: 100_000 }, (_, i) => i);
      await ofAll('sum', {
        path: '/sum', method: 'POST', body: JSON.stringify(numbers), headers: { 'Content-Type': 'application/json' },
      }, ({ sum }) => sum);
      await ofAll('fails', { path: '/fails' }, ({ status, error }) => [status, error]);
      report('stream', ...await Promise.all([1, 2, 3, 4, 5, 6].map(async () =>
        (await request(port, { path: '/stream' })).body.length)));

      // A connection that is kept stays with its worker.
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const kept = new Set();
      for (let i = 0; i < 20; i++) kept.add(JSON.parse((await request(port, { path: '/who', agent })).body).pid);
      report('kept', kept.size);
      agent.destroy();

      cluster.disconnect();
      const exits = workers.map((worker) => happens(worker, 'exit'));
      report('exits', ...await Promise.all(exits));
    },
  });

  const [pids] = run.all('pids')[0];
  const each = (value) => Object.fromEntries(pids.map((pid) => [pid, value]));
  assert.deepEqual(run.one('who'), each(['127.0.0.1', true]));
  assert.deepEqual(run.one('sum'), each(4_999_950_000));
  assert.deepEqual(run.one('fails'), each([500, 'on purpose']));
  assert.deepEqual(run.all('stream')[0], Array(6).fill(64 * 16384));
  assert.equal(run.one('kept'), 1);
  assert.deepEqual(run.all('exits')[0], Array(3).fill([0, null]));
});
