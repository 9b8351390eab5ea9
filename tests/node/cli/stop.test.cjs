'use strict';
// SIGTERM and SIGINT: what was begun is finished, and everything ends in time.

const test = require('node:test');
const assert = require('node:assert/strict');
const { happens, ours, refusal, request, until } = require('../support/index.cjs');
const { begin, cli } = require('./fixtures/run.cjs');

for (const [what, stop] of [
  ['SIGTERM', (started) => started.kill('SIGTERM')],
  ['SIGINT', (started) => started.kill('SIGINT')],
  ['SIGTERM to the whole group, as systemd and timeout(1) send it', (started) => started.kill('SIGTERM', -started.pid)],
  ['SIGINT to the whole group, as a terminal sends it', (started) => started.kill('SIGINT', -started.pid)],
]) {
  test(`a request in flight is finished: ${what}`, ours, async () => {
    const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
      const port = await started.port();
      const [answer] = await begin(started, port);
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

test('the script\'s SIGTERM handler runs at once, and has the rest of the deadline', ours, async () => {
  const run = await cli({
    args: ['-i', '2', 'app.js'], files: {
      'app.js': `require('./server.js');
        setInterval(() => {}, 1000);
        process.on('SIGTERM', () => {
          console.log('cleaning');
          setTimeout(() => { console.log('clean'); process.exit(9); }, 2500);
        });`,
    },
  }, async (started) => {
    const port = await started.port();
    const [answer] = await begin(started, port);
    started.kill();
    await started.wait(/\] cleaning/, { count: 1 });
    started.write('release', '');
    await answer;
  });
  for (const slot of [0, 1]) {
    assert.match(run.stdout, new RegExp(`\\[${slot}\\] cleaning\\n(.*\\n)*\\[${slot}\\] clean\\n`));
  }
  // What it said of its own end.
  assert.equal(run.code, 9);
  assert.equal(run.stderr, '');
});

test('at the deadline SIGTERM comes, and the exit code says that work was lost', ours, async () => {
  let answer;
  const run = await cli({ args: ['-i', '2', '--stop-deadline', '2s', 'server.js'] }, async (started) => {
    [answer] = await begin(started, await started.port());
    started.kill();
  });
  assert.equal((await answer).code, 'ECONNRESET');
  assert.equal(run.said().length, 1);
  assert.match(run.said()[0], /^worker [01] \(pid [0-9]+\) did not finish within 2 s: SIGTERM$/);
  assert.equal(run.code, 128 + 15);
});

test('what ignores SIGTERM is killed 2 s after the deadline', ours, async () => {
  const run = await cli({
    args: ['-i', '2', '--stop-deadline', '200ms', 'app.js'],
    files: {
      'app.js': `
        process.on('SIGTERM', () => console.log('no'));
        setInterval(() => {}, 1000);
        require('./server.js');`,
    },
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
    const [answer] = await begin(started, await started.port());
    started.kill();
    await answer;
  });
  assert.equal(run.code, 128 + 15);
  assert.equal(run.stderr, '');
});

/** Sends the signal until it was taken for one of its own. */
function insist(started, signal, line) {
  return until(() => line.test(started.stdout) || (started.ended === null && started.kill(signal)), `${line}`);
}

test('a signal that comes twice at once is one', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const [answer] = await begin(started, await started.port());
    // As from timeout(1), which signals its child, and then the group.
    started.kill('SIGTERM');
    started.kill('SIGINT', -started.pid);
    await started.wait(/SIG(TERM|INT): stopping 2 workers/);
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('a second signal makes haste, a third does not wait at all', ours, async () => {
  let answer;
  const twice = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    [answer] = await begin(started, await started.port());
    started.kill('SIGINT');
    await started.wait(/SIGINT: stopping 2 workers/);
    await insist(started, 'SIGTERM', /SIGTERM again/);
  });
  await answer;
  assert.match(twice.stdout, /^cluster-rs: SIGTERM again: making haste$/m);
  assert.match(twice.said()[0], /is hurried: SIGTERM$/);
  assert.equal(twice.code, 128 + 15);

  const thrice = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    request(port, { path: '/block' }).catch(() => {});
    await started.wait(/\] blocked/);
    for (const [signal, line] of [
      ['SIGTERM', /stopping 2/], ['SIGINT', /SIGINT again/], ['SIGTERM', /SIGTERM again/],
    ]) {
      await insist(started, signal, line);
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
