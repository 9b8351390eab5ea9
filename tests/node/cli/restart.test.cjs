'use strict';
// What happens when a worker ends by itself.

const test = require('node:test');
const assert = require('node:assert/strict');
const { existsSync, rmSync } = require('node:fs');
const { connectionsAmong, descriptors, ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

/** Resolves when both slots answer. */
async function both(port) {
  const slots = new Set();
  await until(async () => slots.add(JSON.parse((await request(port)).body).instance).size === 2, 'both slots');
}

/** Lets one request end the worker that gets it; resolves with its answer's error. */
const provoke = (port, target) => request(port, { path: target }).then(() => null, (error) => error);

test('a worker that crashes is replaced in its slot, and the others serve on', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    for (const target of ['/exit?value=3', '/kill?value=SIGSEGV', '/exit?value=0']) {
      const count = started.said().length;
      await provoke(port, target);
      await until(() => started.said().length === count + 1, 'the line about it');
      assert.equal((await request(port)).status, 200);
      await both(port);
    }
    assert.equal(started.processes().length, 3);
    started.kill();
  });
  assert.equal(run.code, 0);
  const [exited, signalled, well] = run.said();
  assert.match(exited, /^worker [01] \(pid [0-9]+\) exited with code 3; the next starts in [0-9]+ ms$/);
  assert.match(signalled, /^worker [01] \(pid [0-9]+\) was ended by SIGSEGV; the next starts in [0-9]+ ms$/);
  assert.match(well, /^worker [01] \(pid [0-9]+\) exited with code 0; the next starts in [0-9]+ ms$/);
});

test('the replacement of the only worker gets the same port', ours, async () => {
  await cli({ args: ['-i', '1', 'server.js'] }, async (started) => {
    const port = await started.port();
    const first = Number((await started.wait(/pid ([0-9]+)\)\n/))[1]);
    started.kill('SIGKILL', first);
    await started.wait(/was ended by SIGKILL; the next starts/, { on: 'stderr' });
    // Who comes in between waits for it.
    const { pid } = JSON.parse((await request(port)).body);
    assert.ok(pid > 0 && pid !== first);
    started.kill();
  });
});

test('a worker that nobody asked to go, but that was signalled alone, is replaced', ours, async () => {
  await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    await started.port();
    const [, pid] = await started.wait(/2 workers: pids ([0-9]+) /);
    started.kill('SIGTERM', Number(pid));
    await started.wait(new RegExp(`\\(pid ${pid}\\) was ended by SIGTERM; the next starts`), { on: 'stderr' });
    started.kill();
  });
});

test('restarts leave nothing behind in the primary', ours, async () => {
  await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    const settled = async (count) => {
      await until(() => started.said().length === count, 'the line about it');
      await both(port);
    };
    // The first one opens what stays open for good.
    await provoke(port, '/exit?value=1');
    await settled(1);
    const before = connectionsAmong(descriptors(started.pid)).length;
    for (let i = 2; i <= 4; i++) {
      await provoke(port, '/exit?value=1');
      await settled(i);
    }
    await until(() => connectionsAmong(descriptors(started.pid)).length <= before, 'as few descriptors as before');
    started.kill();
  });
});

test('--respawn on-failure: who exits with code 0 has finished', ours, async () => {
  const run = await cli({ args: ['-i', '2', '--respawn', 'on-failure', 'server.js'] }, async (started) => {
    const port = await started.port();
    await provoke(port, '/exit?value=1');
    await started.wait(/exited with code 1; the next starts/, { on: 'stderr' });
    await both(port);
    for (const count of [1, 2]) {
      await provoke(port, '/exit?value=0');
      await started.wait(/exited with code 0\n/, { on: 'stderr', count });
    }
  });
  assert.equal(run.code, 0);
});

test('--respawn never: the first failure is the exit code', ours, async () => {
  const run = await cli({ args: ['-i', '3', '--respawn', 'never', 'server.js'] }, async (started) => {
    const port = await started.port();
    for (const [target, line] of [
      ['/exit?value=0', /code 0\n/], ['/exit?value=7', /code 7\n/], ['/kill?value=SIGKILL', /by SIGKILL\n/],
    ]) {
      await provoke(port, target);
      await started.wait(line, { on: 'stderr' });
    }
  });
  assert.equal(run.code, 7);
  assert.equal(run.said().length, 3);
});

test('a cluster that has listened never gives up', ours, async () => {
  const run = await cli({
    args: ['-i', '1', 'app.js'], files: {
      'app.js': `
        const fs = require('node:fs');
        if (fs.existsSync('broken')) process.exit(5);
        require('node:http').createServer((request, response) => {
          fs.writeFileSync('broken', '');
          process.exit(6);
        }).listen('app.sock');`,
    },
  }, async (started) => {
    await started.wait(/listening on \S+app\.sock /);
    const socket = `${started.directory}/app.sock`;
    await provoke(socket, '/');
    await started.wait(/exited with code 5/, { on: 'stderr', count: 5 });
    rmSync(`${started.directory}/broken`);
    // It serves again: that is to say, it can be ended by a request again.
    await until(() => provoke(socket, '/').then(() => existsSync(`${started.directory}/broken`)), 'service');
    // What ends during the stop would count as a stop that failed.
    await started.wait(/exited with code 6/, { on: 'stderr', count: 2 });
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('workers that serve and are killed again and again are replaced at once', ours, async () => {
  await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    await both(port);
    for (let i = 1; i <= 8; i++) {
      await provoke(port, '/kill?value=SIGKILL');
      await until(() => started.said().length === i, 'the line about it');
      assert.equal((await request(port)).status, 200);
    }
    for (const line of started.said()) assert.match(line, /was ended by SIGKILL; the next starts in 0 ms$/);
    await both(port);
    started.kill();
  });
});
