'use strict';
// A signal at whatever moment: none is lost, and none ends a service that it should not.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

// Loaded before the command: it sends the command a signal, or none, when it loads its `AT`th module or forks.
const MOMENT = `
  const { AT, SIGNAL } = process.env;
  const Module = require('node:module');
  const load = Module._load;
  let count = 0;
  let struck = false;
  const strike = (here) => {
    if (here !== AT || !SIGNAL || struck) return;
    struck = true;
    process.kill(process.pid, SIGNAL);
  };
  Module._load = function (name, ...rest) {
    // From the moment on in which it listens to signals.
    if (process.listenerCount('SIGHUP') > 0) strike(String(count++));
    const loaded = Reflect.apply(load, this, [name, ...rest]);
    return loaded;
  };
  const { ChildProcess } = require('node:child_process');
  const { spawn } = ChildProcess.prototype;
  ChildProcess.prototype.spawn = function (...args) {
    require('node:fs').writeFileSync('count', String(count));
    strike('before');
    const result = Reflect.apply(spawn, this, args);
    strike('after');
    return result;
  };`;

const begin = (at, signal, body) => cli({
  args: ['-i', '2', 'server.js'], files: { 'moment.cjs': MOMENT }, env: { AT: at, SIGNAL: signal },
  command: ([node, ...line]) => [node, '-r', './moment.cjs', ...line],
}, body);

async function moments(some) {
  let count;
  await begin('none', '', async (started) => {
    await started.port();
    started.kill();
    count = Number(require('node:fs').readFileSync(`${started.directory}/count`, 'utf8'));
  });
  assert.ok(count > 10, `${count} modules`);
  const early = Array.from({ length: some }, (_, i) => String(Math.floor(i * count / some)));
  return [...early, String(count - 1), 'before', 'after'];
}

test('SIGTERM and SIGINT in each phase of the start', ours, async () => {
  for (const at of await moments(8)) {
    for (const signal of ['SIGTERM', 'SIGINT']) {
      const run = await begin(at, signal);
      assert.equal(run.code, 0, `${signal} at ${at}`);
      assert.equal(run.stderr, '', `${signal} at ${at}`);
    }
  }
});

test('SIGHUP in each phase of the start: it comes up all the same', ours, async () => {
  for (const at of await moments(3)) {
    const run = await begin(at, 'SIGHUP', async (started) => {
      assert.equal((await request(await started.port())).status, 200);
      started.kill();
    });
    assert.equal(run.code, 0, `SIGHUP at ${at}`);
    assert.equal(run.stderr, '', `SIGHUP at ${at}`);
  }
});

test('SIGTERM in each phase of a reload', ours, async () => {
  for (const line of [/reload: replacing/, /worker 0 is now/, /worker 1 is now/, /reload: done/]) {
    const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
      await started.port();
      started.kill('SIGHUP');
      await started.wait(line);
      started.kill();
    });
    assert.equal(run.code, 0, `${line}`);
    assert.equal(run.stderr, '', `${line}`);
  }
});
