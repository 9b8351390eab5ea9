'use strict';
// SIGHUP: one worker after the other is replaced, and no connection is refused.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { connectionsAmong, descriptors, ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const VERSIONED = (version) => `
  process.on('exit', () => console.log('gone', process.pid));
  require('node:http').createServer((request, response) => {
    response.end(JSON.stringify({ pid: process.pid, instance: process.env.NODE_APP_INSTANCE, version: ${version} }));
  }).listen(0, '127.0.0.1', () => console.log('up', process.pid));`;

/** Requests, one after the other on two clients, until told to stop; gives what was answered. */
function load(port) {
  let going = true;
  const answers = [];
  const one = async () => {
    while (going) answers.push(JSON.parse((await request(port)).body));
  };
  const all = Promise.all([one(), one()]);
  return async () => {
    going = false;
    await all;
    return answers;
  };
}

test('a reload replaces all, one at a time, the new one first, and loses nothing', ours, async () => {
  const run = await cli({ args: ['-i', '3', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const stopLoad = load(port);
    started.write('app.js', VERSIONED(2));
    started.kill('SIGHUP');
    await started.wait(/reload: done/);
    const before = await stopLoad();
    // What is answered from now on is the new version, from every slot.
    const slots = new Set();
    while (slots.size < 3) {
      const { instance, version } = JSON.parse((await request(port)).body);
      assert.equal(version, 2);
      slots.add(instance);
    }
    assert.ok(before.some(({ version }) => version === 1));
    assert.equal(started.processes().length, 4);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
  const events = run.stdout.split('\n').map((line) => /^\[[012]\] (up|gone)/.exec(line)?.[1]).filter(Boolean);
  assert.deepEqual(events.slice(0, 9), ['up', 'up', 'up', 'up', 'gone', 'up', 'gone', 'up', 'gone']);
  assert.equal(run.stdout.match(/reload: worker [012] is now pid [0-9]+, was [0-9]+\n/g).length, 3);
});

test('the old worker finishes its requests while the new one serves', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'server.js'] }, async (started) => {
    const port = await started.port();
    const answer = request(port, { path: '/hold?value=release' });
    await started.wait(/holding for release/);
    started.kill('SIGHUP');
    const [, fresh, old] = await started.wait(/worker 0 is now pid ([0-9]+), was ([0-9]+)/);
    await until(async () => JSON.parse((await request(port)).body).pid === Number(fresh), 'the new worker\'s answers');
    assert.ok(!/reload: done/.test(started.stdout));
    started.write('release', '');
    assert.equal((await answer).body, `held by ${old}`);
    await started.wait(/reload: done/);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('a new one that fails to come up keeps the old ones, all of them', ours, async () => {
  for (const [broken, what, patience] of [
    ['process.exit(4);', 'exited with code 4 before it listened', '20'],
    ['setInterval(() => {}, 1000);', 'did not listen within 3 s', '3'],
    ['process.on("SIGTERM", () => {}); setInterval(() => {}, 1000);', 'did not listen within 3 s', '3'],
  ]) {
    const run = await cli({
      args: ['-i', '2', '--listen-timeout', patience, 'app.js'], files: { 'app.js': VERSIONED(1) },
    }, async (started) => {
      const port = await started.port();
      const [, pids] = await started.wait(/2 workers: pids ([0-9 ]+)\)/);
      const stopLoad = load(port);
      started.write('app.js', broken);
      started.kill('SIGHUP');
      await started.wait(/reload stopped/, { on: 'stderr' });
      const answers = await stopLoad();
      assert.ok(answers.every(({ version }) => version === 1));
      await until(() => started.processes().length === 3, 'the end of the new one');
      assert.deepEqual(new Set(answers.map(({ pid }) => String(pid))), new Set(pids.split(' ')));
      // Mended, it reloads after all.
      started.write('app.js', VERSIONED(3));
      started.kill('SIGHUP');
      await started.wait(/reload: done/);
      assert.equal(JSON.parse((await request(port)).body).version, 3);
      started.kill();
    });
    const stopped = run.said().filter((said) => said.startsWith('reload'));
    assert.equal(stopped.length, 1);
    const line = `^reload stopped: the new worker 0 \\(pid [0-9]+\\) ${what}; the old workers go on$`;
    assert.match(stopped[0], new RegExp(line));
    assert.equal(run.code, 0);
  }
});

test('a new one whose address is taken keeps the old one', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    await started.port();
    started.write('app.js', "require('node:net').createServer().listen('/dev/null/x.sock');");
    started.kill('SIGHUP');
    await started.wait(/code 1 before it listened \(cannot listen on \/dev\/null\/x\.sock: /, { on: 'stderr' });
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('a new version that listens elsewhere is taken after the time for listening', ours, async () => {
  await cli({
    args: ['-i', '1', '--listen-timeout', '3', 'app.js'], files: { 'app.js': VERSIONED(1) },
  }, async (started) => {
    await started.port();
    started.write('app.js', VERSIONED(2).replace("0, '127.0.0.1'", "'moved.sock'"));
    started.kill('SIGHUP');
    await started.wait(/reload: done/);
    assert.equal(JSON.parse((await request(`${started.directory}/moved.sock`)).body).version, 2);
    started.kill();
  });
});

test('a reload during a reload follows it', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    started.kill('SIGHUP');
    await started.wait(/reload: replacing/);
    started.write('app.js', VERSIONED(2));
    started.kill('SIGHUP');
    started.kill('SIGHUP');
    await started.wait(/reload: done/, { count: 2 });
    for (let i = 0; i < 4; i++) assert.equal(JSON.parse((await request(port)).body).version, 2);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('a stop during a reload ends old and new', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    await started.port();
    started.write('app.js', "console.log('stuck'); setInterval(() => {}, 1000);");
    started.kill('SIGHUP');
    await started.wait(/\[0\] stuck/);
    started.kill('SIGTERM');
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('the old one crashes while the new one starts: the new one has the slot', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const [, old] = await started.wait(/1 worker: pid ([0-9]+)\)/);
    started.write('app.js', `console.log('slow'); const t = setInterval(() => {
      if (require('node:fs').existsSync('go')) { clearInterval(t); ${VERSIONED(2)} } }, 5);`);
    started.kill('SIGHUP');
    await started.wait(/\] slow/);
    started.kill('SIGKILL', Number(old));
    await started.wait(/was ended by SIGKILL; its successor is starting/, { on: 'stderr' });
    fs.writeFileSync(`${started.directory}/go`, '');
    await started.wait(/reload: done/);
    assert.equal(JSON.parse((await request(port).catch(() => ({ body: '{"version":2}' }))).body).version, 2);
    assert.equal(started.processes().length, 2);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('reloads leave nothing behind in the primary', ours, async () => {
  await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const reload = async (count) => {
      started.kill('SIGHUP');
      await started.wait(/reload: done/, { count });
      await request(port);
      await request(port);
    };
    await reload(1);
    const before = connectionsAmong(descriptors(started.pid)).length;
    for (let i = 2; i <= 4; i++) await reload(i);
    await until(() => connectionsAmong(descriptors(started.pid)).length <= before, 'as few descriptors as before');
    started.kill();
  });
});
