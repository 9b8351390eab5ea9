'use strict';
// As process 1 of a container: the same, and nothing that would be left to an init.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawn, spawnSync } = require('node:child_process');
const { childrenOf, ours, request, status, until } = require('../support/index.cjs');
const { begin, cli } = require('./fixtures/run.cjs');
const { bury } = require('../../../node-addon/lib/cli/orphans.cjs');

const flags = ['-pf', '--mount-proc'];
const unshares = [flags, ['-Ur', ...flags]].find((given) => spawnSync('unshare', [...given, 'true']).status === 0);
const asFirst = { skip: ours.skip || (unshares === undefined && 'no PID namespace may be made here') };
const inside = (line) => ['unshare', ...unshares, ...line];

/** The process that is number 1 of its namespace, as we see it. */
const firstOf = (started) => until(() => childrenOf(started.pid)[0], 'process 1');

test('as process 1: signals stop it gracefully', asFirst, async () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const run = await cli({ args: ['-i', '2', 'server.js'], command: inside }, async (started) => {
      const port = await started.port();
      await started.wait(/primary: pid 1; 2 workers/);
      const [answer] = await begin(started, port);
      process.kill(await firstOf(started), signal);
      await started.wait(/stopping 2 workers/);
      started.write('release', '');
      assert.match((await answer).body, /^held by/);
    });
    assert.equal(run.code, 0);
  }
});

test('as process 1: crashes are seen, replaced and become the exit code', asFirst, async () => {
  const args = ['-i', '2', '--respawn', 'on-failure', 'server.js'];
  const run = await cli({ args, command: inside }, async (started) => {
    const port = await started.port();
    await request(port, { path: '/exit?value=6' }).catch(() => {});
    await started.wait(/exited with code 6; the next starts/, { on: 'stderr' });
    await until(() => started.processes().length === 4, 'the replacement');
    process.kill(await firstOf(started), 'SIGHUP');
    await started.wait(/reload: done/);
    process.kill(await firstOf(started), 'SIGTERM');
  });
  assert.equal(run.code, 0);
  const failed = await cli({ args: ['-i', '2', 'bad.js'], files: { 'bad.js': 'process.exit(17)' }, command: inside });
  assert.equal(failed.code, 17);
});

test('as process 1: orphans do not stay as zombies, and no worker\'s status is taken', asFirst, async () => {
  const run = await cli({
    args: ['-i', '2', 'app.js'], command: inside, files: {
      'app.js': `
        const { spawn, spawnSync } = require('node:child_process');
        // The shell ends at once, and what it started in the background becomes a child of process 1.
        for (let i = 0; i < 5; i++) spawnSync('sh', ['-c', 'sleep 0.01 & sleep 0.02 &']);
        require('./server.js');`,
    },
  }, async (started) => {
    const port = await started.port();
    const first = await firstOf(started);
    await until(() => childrenOf(first).length === 2, 'no children but the workers');
    for (let i = 1; i <= 3; i++) {
      await request(port, { path: `/exit?value=${i}` }).catch(() => {});
      await started.wait(new RegExp(`exited with code ${i};`), { on: 'stderr' });
    }
    const sound = (pid) => status(pid)?.state !== 'Z';
    await until(() => childrenOf(first).length === 2 && childrenOf(first).every(sound), 'two workers');
    process.kill(first, 'SIGTERM');
  });
  assert.equal(run.code, 0);
});

test('only the dead are buried, only the children of that process, and nobody else\'s', ours, async () => {
  // What takes the shell's place knows nothing of the shell's children, so that those which end stay as zombies.
  const parent = spawn('sh', ['-c', 'true & true & sleep 600 & exec sleep 600'], { stdio: 'ignore', detached: true });
  try {
    const zombies = () => childrenOf(parent.pid).filter((pid) => status(pid)?.state === 'Z');
    await until(() => zombies().length === 2, 'two zombies');
    const [mine, other] = zombies();
    const buried = [];
    bury(parent.pid, (pid) => pid === mine, (pid) => buried.push(pid));
    assert.deepEqual(buried, [other]);
    bury(process.pid, () => false, (pid) => buried.push(pid));
    assert.deepEqual(buried, [other]);
  } finally {
    process.kill(-parent.pid, 'SIGKILL');
  }
});
