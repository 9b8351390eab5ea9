'use strict';
// Reloads that go wrong again and again, and reloads upon reloads: the service goes on as it was.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const CRASHES = 20;
const RELOADS = 10;

/** Requests on connections of their own, on two clients, until told to stop; gives the processes that answered. */
function load(port) {
  let going = true;
  const pids = [];
  const one = async () => {
    while (going) pids.push(JSON.parse((await request(port)).body).pid);
  };
  const all = Promise.all([one(), one()]);
  return async () => {
    going = false;
    await all;
    return pids;
  };
}

test('a successor that crashes on its way up, twenty times: nobody fails, and the old workers serve', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    const [, pids] = await started.wait(/2 workers: pids ([0-9 ]+)\)/);
    const stopLoad = load(port);
    started.write('server.js', 'process.exit(3);');
    for (let count = 1; count <= CRASHES; count++) {
      started.kill('SIGHUP');
      await started.wait(/reload refused: the new worker 0 .* exited with code 3/, { on: 'stderr', count });
    }
    const answered = await stopLoad();
    assert.ok(answered.length > CRASHES);
    assert.deepEqual(new Set(answered.map(String)), new Set(pids.split(' ')));
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('ten reloads at once with requests that last: all are answered, and the old workers do not pile up', ours, async () => {
  const workers = 3;
  const run = await cli({ args: ['-i', `${workers}`, 'server.js'] }, async (started) => {
    const port = await started.port();
    const held = Array.from({ length: 4 * workers }, () => request(port, { path: '/hold?value=release' }));
    await started.wait(/holding for release/, { count: held.length });
    const stopLoad = load(port);
    let most = 0;
    for (let i = 1; i <= RELOADS; i++) {
      started.kill('SIGHUP');
      // Each is heard before the next: signals that wait are one.
      await started.wait(/reload: replacing/, { count: i });
      most = Math.max(most, started.processes().length);
    }
    await started.wait(/reload: done/);
    most = Math.max(most, started.processes().length);
    started.write('release', '');
    for (const answer of await Promise.all(held)) assert.match(answer.body, /^held by [0-9]+$/);
    const answered = await stopLoad();
    await until(() => started.processes().length === workers + 1, 'the end of all others');
    assert.ok(most <= 1 + 3 * workers + RELOADS, `${most} processes`);
    assert.ok(answered.length > 0);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stdout.match(/reload superseded/g).length, RELOADS - 1);
  assert.equal(run.stdout.match(/reload: done/g).length, 1);
});
