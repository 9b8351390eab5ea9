'use strict';
// Where this system has no addon: workers are started and started again; what replaces them while they run is the engine's, and that is said.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const begin = (args, files, body) => cli({
  files: { ...files, 'mac.cjs': "Object.defineProperty(process, 'platform', { value: 'darwin' });" },
  command: ([node, bin]) => [node, '-r', './mac.cjs', bin, ...args],
}, body);

test('workers that crash are replaced, and signals that need the engine are answered in a sentence', ours, async () => {
  const run = await begin(['-i', '2', 'server.js'], {}, async (started) => {
    const port = await started.port();
    await request(port, { path: '/exit?value=3' }).catch(() => {});
    await started.wait(/exited with code 3; the next starts in [0-9]+ ms/, { on: 'stderr' });
    const slots = new Set();
    await until(async () => slots.add(JSON.parse((await request(port)).body).instance).size === 2, 'both slots');
    for (const signal of ['SIGHUP', 'SIGTTIN', 'SIGTTOU']) {
      started.kill(signal);
      await started.wait(new RegExp(`${signal}: .* needs the addon of cluster-rs, which is not there: `), { on: 'stderr' });
    }
    assert.equal((await request(port)).status, 200);
    assert.equal(started.processes().length, 3);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.said().length, 4);
});

test('options that need the engine are told once', ours, async () => {
  const args = ['-i', '1', '--recycle', 'requests=5', '--parallel', '2', '--wait-ready', 'server.js'];
  const run = await begin(args, {}, async (started) => {
    assert.equal((await request(await started.port())).status, 200);
    started.kill();
  });
  assert.equal(run.code, 0);
  const line = '--recycle, --parallel, --wait-ready needs the addon of cluster-rs, which is not there: the workers are not replaced while they run';
  assert.deepEqual(run.said(), [line]);
});

test('a program that does not start is given up, as with the engine', ours, async () => {
  const run = await begin(['-i', '2', 'bad.js'], { 'bad.js': 'process.exit(4);' });
  assert.equal(run.code, 4);
  assert.equal(run.said().length, 3);
});
