'use strict';
// SIGTERM and SIGINT: what was begun is finished, and everything ends in time.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { childrenOf, happens, ours, refusal, request, status, until } = require('./support/index.cjs');
const { cli } = require('./fixtures-cli/run.cjs');

/** Starts a request that lasts until the file `release` is there, and waits until a worker has it. */
async function begin(started, port) {
  const answer = request(port, { path: '/hold?value=release' }).catch((error) => error);
  await started.wait(/holding for release/);
  return answer;
}

for (const [what, stop] of [
  ['SIGTERM', (started) => started.kill('SIGTERM')],
  ['SIGINT', (started) => started.kill('SIGINT')],
  ['SIGTERM to the whole group, as systemd and timeout(1) send it', (started) => started.kill('SIGTERM', -started.pid)],
  ['SIGINT to the whole group, as a terminal sends it', (started) => started.kill('SIGINT', -started.pid)],
]) {
  test(`a request in flight is finished: ${what}`, ours, async () => {
    const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
      const port = await started.port();
      const answer = begin(started, port);
      await started.wait(/holding for release/);
      stop(started);
      await started.wait(/stopping 2 workers/);
      // Nobody listens any more, and the request is still there.
      await until(async () => await refusal(port) === 'ECONNREFUSED', 'a closed port');
      started.write('release', '');
      assert.match((await answer).body, /^held by [0-9]+$/);
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}

test('the worker\'s own SIGTERM handler runs after its last request, and has the rest of the deadline', ours, async () => {
  const run = await cli({
    args: ['-i', '2', 'app.js'], files: {
      'app.js': `require('./server.js');
        setInterval(() => {}, 1000);
        process.on('SIGTERM', () => { console.log('cleaning'); setTimeout(() => { console.log('clean'); process.exit(9); }, 2500); });`,
    },
  }, async (started) => {
    const port = await started.port();
    const answer = begin(started, port);
    await started.wait(/holding for release/);
    started.kill();
    await started.wait(/\] cleaning/, { count: 1 });
    started.write('release', '');
    await answer;
  });
  const [held, other] = /\[0\] holding/.test(run.stdout) ? [0, 1] : [1, 0];
  for (const slot of [held, other]) assert.match(run.stdout, new RegExp(`\\[${slot}\\] cleaning\\n(.*\\n)*\\[${slot}\\] clean\\n`));
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('at the deadline SIGTERM comes, and the exit code says that work was lost', ours, async () => {
  let answer;
  const run = await cli({ args: ['-i', '2', '--stop-deadline', '300ms', 'server.js'] }, async (started) => {
    answer = begin(started, await started.port());
    await started.wait(/holding for release/);
    started.kill();
  });
  assert.equal((await answer).code, 'ECONNRESET');
  assert.equal(run.said().length, 1);
  assert.match(run.said()[0], /^worker [01] \(pid [0-9]+\) did not finish within 0\.3 s: SIGTERM$/);
  assert.equal(run.code, 128 + 15);
});

test('what ignores SIGTERM is killed 2 s after the deadline', ours, async () => {
  const run = await cli({
    args: ['-i', '2', '--stop-deadline', '200ms', 'app.js'],
    files: { 'app.js': "process.on('SIGTERM', () => console.log('no')); setInterval(() => {}, 1000); require('./server.js');" },
  }, async (started) => {
    await started.port();
    started.kill();
    await started.wait(/\[0\] no/);
    await started.wait(/\[1\] no/);
  });
  assert.equal(run.code, 128 + 9);
  assert.equal(run.said().filter((line) => /^worker [01] \(pid [0-9]+\) does not go: SIGKILL$/.test(line)).length, 2);
});

test('a blocked worker is killed as well', ours, async () => {
  const run = await cli({ args: ['-i', '2', '--stop-deadline', '200ms', 'server.js'] }, async (started) => {
    const port = await started.port();
    request(port, { path: '/block' }).catch(() => {});
    await started.wait(/\] blocked/);
    started.kill();
  });
  assert.equal(run.code, 128 + 9);
  assert.match(run.said()[0], /did not finish within 0\.2 s: SIGTERM$/);
});

test('a stop deadline of 0 asks nobody to finish, and says nothing about it', ours, async () => {
  const run = await cli({ args: ['-i', '2', '--stop-deadline', '0', 'server.js'] }, async (started) => {
    const answer = begin(started, await started.port());
    await started.wait(/holding for release/);
    started.kill();
    await answer;
  });
  assert.equal(run.code, 128 + 15);
  assert.equal(run.stderr, '');
});

test('a second signal makes haste, a third does not wait at all', ours, async () => {
  let answer;
  const twice = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    answer = begin(started, await started.port());
    await started.wait(/holding for release/);
    started.kill('SIGINT');
    await started.wait(/SIGINT: stopping 2 workers/);
    started.kill('SIGTERM');
  });
  await answer;
  assert.match(twice.stdout, /^cluster-rs: SIGTERM again: making haste$/m);
  assert.match(twice.said()[0], /is hurried: SIGTERM$/);
  assert.equal(twice.code, 128 + 15);

  const thrice = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    request(port, { path: '/block' }).catch(() => {});
    await started.wait(/\] blocked/);
    for (const [signal, line] of [['SIGTERM', /stopping 2/], ['SIGINT', /SIGINT again/], ['SIGTERM', /SIGTERM again/]]) {
      started.kill(signal);
      await started.wait(line);
    }
  });
  assert.equal(thrice.code, 128 + 9);
});

test('a stop during the start, between restarts and before anything listens', ours, async () => {
  for (const [text, line, on] of [
    ["console.log('started'); setTimeout(() => {}, 1e6);", /\[0\] started/, 'stdout'],
    ['process.exit(1);', /the next starts in/, 'stderr'],
  ]) {
    const run = await cli({ args: ['-i', '3', 'app.js'], files: { 'app.js': text } }, async (started) => {
      await started.wait(line, { on });
      started.kill();
    });
    assert.equal(run.code, 0);
  }
});

test('the deadline ends also what only the log waits for', ours, async () => {
  const run = await cli({
    args: ['-i', '1', 'app.js'],
    files: { 'app.js': "require('./server.js'); setInterval(() => console.log('x'.repeat(10_000)), 1);" },
  }, async (started) => {
    await started.port();
    started.process.stdout.pause();
    started.kill();
    await happens(started.process, 'exit');
    started.process.stdout.resume();
  });
  assert.equal(run.code, 0);
});

test('when the primary is killed its workers go too', ours, async () => {
  const run = await cli({ args: ['-i', '3', 'server.js'] }, async (started) => {
    await started.port();
    started.kill('SIGKILL');
  });
  assert.equal(run.code, 'SIGKILL');
});

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
      const answer = begin(started, port);
      await started.wait(/holding for release/);
      process.kill(await firstOf(started), signal);
      await started.wait(/stopping 2 workers/);
      started.write('release', '');
      assert.match((await answer).body, /^held by/);
    });
    assert.equal(run.code, 0);
  }
});

test('as process 1: crashes are seen, replaced and become the exit code', asFirst, async () => {
  const run = await cli({ args: ['-i', '2', '--respawn', 'on-failure', 'server.js'], command: inside }, async (started) => {
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

test('as process 1: orphans do not stay as zombies, and no worker\'s status is taken', asFirst, async (t) => {
  const { reapOrphan } = require('../../node-addon/lib/load.cjs').load();
  if (typeof reapOrphan !== 'function') {
    t.skip('the native part cannot reap yet');
    return;
  }
  const run = await cli({
    args: ['-i', '2', 'app.js'], command: inside, files: {
      'app.js': `
        const { spawnSync } = require('node:child_process');
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
    await until(() => childrenOf(first).length === 2 && childrenOf(first).every((pid) => status(pid)?.state !== 'Z'), 'two workers');
    process.kill(first, 'SIGTERM');
  });
  assert.equal(run.code, 0);
});

const hasScript = spawnSync('script', ['--version']).status === 0;

const terminal = { skip: ours.skip || (!hasScript && 'there is no script(1)') };
const onTerminal = (line) => ['script', '-qec', line.map((word) => `'${word}'`).join(' '), '/dev/null'];

test('Ctrl-C in a terminal lets requests finish', terminal, async () => {
  const run = await cli({
    args: ['-i', '2', 'server.js'], stdio: ['pipe', 'pipe', 'pipe'], command: onTerminal,
  }, async (started) => {
    const port = await started.port();
    const answer = begin(started, port);
    await started.wait(/holding for release/);
    started.process.stdin.write('\x03');
    await started.wait(/SIGINT: stopping 2 workers/);
    fs.writeFileSync(`${started.directory}/release`, '');
    assert.match((await answer).body, /^held by/);
    await happens(started.process, 'exit');
  });
  assert.equal(run.code, 0);
});

test('a terminal that is closed is a stop', terminal, async () => {
  await cli({ args: ['-i', '2', 'server.js'], command: onTerminal }, async (started) => {
    const answer = begin(started, await started.port());
    await started.wait(/holding for release/);
    started.kill('SIGKILL');
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
  });
});
